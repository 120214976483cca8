"""The publish lane: one pipeline at a time, answered when what it wrote is durable."""

from __future__ import annotations

from typing import Any

from pushserver.stores.command import Command, teach
from pushserver.stores.lane import Client, Lane, Owner
from pushserver.stores.link import pack
from pushserver.stores.seal import Seal

__all__ = ["PublishLane"]


class PublishLane(Lane):
    """Carries out commands in the order given, and answers them when `seal` says that they are durable.

    Nothing else is in its pipelines, for the seal answers for all that was written before it on its
    connection. A seal that is broken fails every command of its pipeline that the engine did carry out:
    with kind `durability`, and repeating is safe. What the engine refused keeps its own error; what has to
    go elsewhere, or to be taught, is sent again in a pipeline with a seal of its own.
    """

    def __init__(self, client: Client, owner: Owner, *, timeout_s: float, seal: Seal | None) -> None:
        super().__init__(client, owner, timeout_s=timeout_s, max_in_flight=1)
        self._seal = seal

    def _parts(self, batch: list[Command]) -> list[bytes]:
        # Not when the engine says NOSCRIPT: meanwhile it would carry out later commands of scripts it knows.
        teach(batch)
        parts = super()._parts(batch)
        return parts if self._seal is None else [*parts, pack(self._seal.command)]

    def _results(self, batch: list[Command], answers: list[Any]) -> list[Any]:
        if self._seal is None:
            return super()._results(batch, answers)
        fault = self._seal.broken(answers[-1])
        results = super()._results(batch, answers[:-1])
        if fault is None:
            return results
        return [result if isinstance(result, Exception) else fault for result in results]
