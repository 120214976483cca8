"""WebSocket frames without I/O (RFC 6455 section 5): building the server's, parsing the client's."""

from __future__ import annotations

__all__ = ["close_frame", "ping_frame", "pong_frame", "text_frame"]

_TEXT = 0x81
_CLOSE = 0x88
_PING = 0x89
_PONG = 0x8A
_MAX_CONTROL_BYTES = 125


def text_frame(payload: bytes) -> bytes:
    """A whole text message in one frame. `payload` has to be UTF-8; it is not looked at."""
    size = len(payload)
    if size < 126:
        return bytes((_TEXT, size)) + payload
    if size < 0x10000:
        return bytes((_TEXT, 126)) + size.to_bytes(2) + payload
    return bytes((_TEXT, 127)) + size.to_bytes(8) + payload


def ping_frame(payload: bytes) -> bytes:
    """A ping. Raises `ValueError` for more than 125 bytes."""
    return _control_frame(_PING, payload)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping that carried `payload`. Raises `ValueError` for more than 125 bytes."""
    return _control_frame(_PONG, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; `reason` is cut to 123 bytes of UTF-8, at a character's end."""
    cut = reason.encode(errors="replace")[: _MAX_CONTROL_BYTES - 2]
    return _control_frame(_CLOSE, code.to_bytes(2) + cut.decode(errors="ignore").encode())


def _control_frame(first: int, payload: bytes) -> bytes:
    if len(payload) > _MAX_CONTROL_BYTES:
        raise ValueError(f"a control frame holds at most {_MAX_CONTROL_BYTES} bytes")
    return bytes((first, len(payload))) + payload
