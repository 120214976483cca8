"""The JSON text frames that the server sends besides messages, built as finished WebSocket frames."""

from __future__ import annotations

from pushserver.core.cached import cached
from pushserver.core.categories import Categories
from pushserver.core.frames import text_frame
from pushserver.core.jsontext import dump

__all__ = ["PONG", "RETRY_MAX_MS", "RETRY_MIN_MS", "error_frame", "live_frame", "welcome_frame"]

RETRY_MIN_MS = 500
RETRY_MAX_MS = 20_000
"""Within these a client waits, with full jitter, before it connects again."""

PONG = text_frame(b'{"type":"pong"}')
"""Answer to `{"type":"ping"}`."""


def welcome_frame(
    *, connection: str, pod: str, user: str, categories: Categories, expires: float, version: str
) -> bytes:
    """The first frame: who and where the client is; `expires` in seconds since 1970."""
    fields = {
        "type": "welcome",
        "connection": connection,
        "pod": pod,
        "user": user,
        "categories": categories,
        "expires": int(expires),
        "version": version,
    }
    return text_frame(dump(fields).encode())


# Most connections are told that nothing waited and nothing is missing.
@cached("live_frames", 64)
def live_frame(*, delivered: int, expired: int, evicted: int, parked: int, gap: bool) -> bytes:
    """What was waiting has been sent; whether anything is missing; how to come back. Once a connection."""
    fields = {
        "type": "live",
        "delivered": delivered,
        "missed": {"expired": expired, "evicted": evicted, "parked": parked},
        "gap": gap,
        "retry": {"min_ms": RETRY_MIN_MS, "max_ms": RETRY_MAX_MS},
    }
    return text_frame(dump(fields).encode())


def error_frame(code: str, message: str) -> bytes:
    """The client's frame was refused; `message` names what is wrong and quotes nothing of it."""
    return text_frame(dump({"type": "error", "code": code, "message": message}).encode())
