"""The close codes a client may see, with what it should do next (RFC 6455 section 7.4)."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["BLAMES_CONTENT", "CloseCode"]


class CloseCode(IntEnum):
    """Why a connection ends. Codes from 4400 are this server's own."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_DATA = 1007
    TOO_BIG = 1009
    SERVICE_RESTART = 1012
    """Drain: reconnect with jitter."""
    BAD_FRAMES = 4400
    """Ten frames that were no request: do not reconnect."""
    NOT_AUTHENTICATED = 4401
    """No believed token, or it expired: reconnect with a new one."""
    KICKED = 4403
    """Disconnected by the back end: do not reconnect."""
    NO_PROGRESS = 4408
    """Nothing read, answered or confirmed in time: reconnect with jitter."""
    REPLACED = 4409
    """A newer connection of the same user took this one's place: do not reconnect."""
    RATE = 4429
    """Too many frames a second: reconnect with jitter."""


BLAMES_CONTENT = frozenset({CloseCode.UNSUPPORTED_DATA, CloseCode.INVALID_DATA, CloseCode.TOO_BIG})
"""Closes *by the client* that say it could not digest what it was sent."""
