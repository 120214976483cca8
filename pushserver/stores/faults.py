"""What Redis' and the network's errors mean here: one table from error to `StoreError`."""

from __future__ import annotations

import asyncio

from redis import exceptions as redis_errors

from pushserver.core.errors import StoreError, StoreRefusedError, StoreUnavailableError

__all__ = ["is_noscript", "store_error"]

_TABLE: tuple[tuple[type[BaseException], type[StoreError], str], ...] = (
    # The narrower class first: most of these inherit from ConnectionError or ResponseError.
    (redis_errors.TimeoutError, StoreUnavailableError, "timeout"),
    (asyncio.TimeoutError, StoreUnavailableError, "timeout"),
    (redis_errors.BusyLoadingError, StoreUnavailableError, "loading"),
    (redis_errors.AuthenticationError, StoreRefusedError, "auth"),
    (redis_errors.NoPermissionError, StoreRefusedError, "auth"),
    (redis_errors.MaxConnectionsError, StoreUnavailableError, "connections"),
    (redis_errors.ClusterDownError, StoreUnavailableError, "cluster_down"),
    (redis_errors.TryAgainError, StoreUnavailableError, "moved"),
    (redis_errors.MovedError, StoreUnavailableError, "moved"),
    (redis_errors.AskError, StoreUnavailableError, "moved"),
    (redis_errors.ReadOnlyError, StoreUnavailableError, "readonly"),
    (redis_errors.OutOfMemoryError, StoreRefusedError, "oom"),
    (redis_errors.ConnectionError, StoreUnavailableError, "connection"),
    (OSError, StoreUnavailableError, "connection"),
)

_BY_TEXT = (
    ("MISCONF", StoreRefusedError, "misconf"),
    ("OOM", StoreRefusedError, "oom"),
    ("NOREPLICAS", StoreRefusedError, "noreplicas"),
    ("NOAUTH", StoreRefusedError, "auth"),
    ("WRONGPASS", StoreRefusedError, "auth"),
    ("MASTERDOWN", StoreUnavailableError, "readonly"),
    ("BUSY", StoreUnavailableError, "busy"),
)


def store_error(error: BaseException) -> StoreError:
    """The `StoreError` that `error` means; its text holds no key, argument or password."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, asyncio.CancelledError):
        return StoreUnavailableError("closed", "the pod is leaving")
    for cause, kind_of_error, kind in _TABLE:
        if isinstance(error, cause):
            return kind_of_error(kind, type(error).__name__)
    text = str(error)
    for word, kind_of_error, kind in _BY_TEXT:
        if word in text:
            return kind_of_error(kind, word)
    return StoreRefusedError("error", f"{type(error).__name__}: {text[:120]}")


def is_noscript(result: object) -> bool:
    """Whether the engine does not know the script (restarted, failed over, flushed)."""
    return isinstance(result, redis_errors.NoScriptError)
