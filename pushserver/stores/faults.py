"""What Redis' and the network's errors mean here: one table from error to `StoreError`."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from redis import exceptions as redis_errors

from pushserver.core.errors import StoreError, StoreRefusedError, StoreUnavailableError

__all__ = ["CLIENT_ERRORS", "NOT_READY", "Redirect", "is_noscript", "redirect", "store_error"]

CLIENT_ERRORS = (redis_errors.RedisError, OSError)
"""Whatever a client of redis-py raises for an engine's or the network's sake."""

NOT_READY = frozenset({"loading", "readonly", "cluster_down", "misconf", "noreplicas"})
"""Kinds of answer that say: not now, whatever you ask (or whatever you write). Asking less often helps."""

_TABLE: tuple[tuple[type[BaseException], type[StoreError], str], ...] = (
    # The narrower class first: most of these inherit from ConnectionError or ResponseError.
    (redis_errors.TimeoutError, StoreUnavailableError, "timeout"),
    (asyncio.TimeoutError, StoreUnavailableError, "timeout"),
    (redis_errors.BusyLoadingError, StoreUnavailableError, "loading"),
    (redis_errors.AuthenticationError, StoreRefusedError, "auth"),
    (redis_errors.NoPermissionError, StoreRefusedError, "auth"),
    (redis_errors.MasterDownError, StoreUnavailableError, "readonly"),
    (redis_errors.ClusterDownError, StoreUnavailableError, "cluster_down"),
    (redis_errors.TryAgainError, StoreUnavailableError, "moved"),
    (redis_errors.AskError, StoreUnavailableError, "moved"),  # and MovedError
    (redis_errors.ReadOnlyError, StoreUnavailableError, "readonly"),
    (redis_errors.OutOfMemoryError, StoreRefusedError, "oom"),
    (redis_errors.ConnectionError, StoreUnavailableError, "connection"),
    (OSError, StoreUnavailableError, "connection"),
)

_BY_CODE: dict[str, tuple[type[StoreError], str]] = {
    "MISCONF": (StoreRefusedError, "misconf"),
    "NOREPLICAS": (StoreRefusedError, "noreplicas"),
    "NOCONTENT": (StoreRefusedError, "content"),
    "BUSY": (StoreUnavailableError, "busy"),
    "UNKILLABLE": (StoreUnavailableError, "busy"),
}
"""Error codes (the first word of an answer) for which redis-py has no class; one is `inbox_append.lua`'s."""


def store_error(error: BaseException) -> StoreError:
    """The `StoreError` that `error` means; its text holds no key, argument or password."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return StoreUnavailableError("closed", "the pod is leaving")
    text = str(error)
    reason = f"{type(error).__name__}: {_without_arguments(text)}"
    for cause, kind_of_error, kind in _TABLE:
        if isinstance(error, cause):
            return kind_of_error(kind, reason)
    kind_of_error, kind = _BY_CODE.get(text.split(" ", 1)[0], (StoreRefusedError, "error"))
    return kind_of_error(kind, reason)


def _without_arguments(text: str) -> str:
    """An error's text up to where it begins to quote what it was sent."""
    return re.split("['\"`]", text, maxsplit=1)[0].rstrip(" (:,")[:120]


def is_noscript(result: object) -> bool:
    """Whether the engine does not know the script (restarted, failed over, flushed)."""
    return isinstance(result, redis_errors.NoScriptError)


@dataclass(frozen=True, slots=True)
class Redirect:
    """Another node serves the slot: from now on, or (`asking`) for this one time while it moves."""

    slot: int
    node: tuple[str, int]
    asking: bool


def redirect(result: object) -> Redirect | None:
    """Where a node of a cluster sends us; None for any other answer."""
    if not isinstance(result, redis_errors.AskError):
        return None
    asking = not isinstance(result, redis_errors.MovedError)
    return Redirect(result.slot_id, (result.host, result.port), asking)
