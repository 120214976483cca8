"""What a publish waits for before it is answered: the durability that `redis.durability` asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pushserver.core.errors import StoreUnavailableError
from pushserver.stores.faults import store_error

__all__ = ["Durability", "Seal", "seal_of"]

Durability: TypeAlias = Literal["none", "replica", "fsync"]

WAIT_SHARE = 0.4
"""The part of a command's time that is waited: a publish that just missed a pipeline waits for two."""


@dataclass(frozen=True, slots=True)
class Seal:
    """The command that ends a pipeline and waits until what was written on its connection is durable."""

    command: tuple[str | int, ...]
    means: str

    def broken(self, answer: Any) -> StoreUnavailableError | None:
        """The error that its answer means, of kind `durability`; None if what was written is durable."""
        if isinstance(answer, Exception):
            return StoreUnavailableError("durability", f"{self.means}: {store_error(answer).reason}")
        # WAIT counts replicas; WAITAOF the engine itself (0 or 1), then replicas.
        reached = answer[0] if isinstance(answer, list) else answer
        if reached < 1:
            return StoreUnavailableError("durability", f"{self.means}: not in time")
        return None


def seal_of(durability: Durability, timeout_s: float) -> Seal | None:
    """The seal of pipelines that are to be as durable as that, within `WAIT_SHARE` of a command's time."""
    # 0 would wait for ever.
    milliseconds = max(1, int(timeout_s * 1000 * WAIT_SHARE))
    if durability == "replica":
        return Seal(("WAIT", 1, milliseconds), "written on one replica")
    if durability == "fsync":
        return Seal(("WAITAOF", 1, 0, milliseconds), "written to the disk")
    return None
