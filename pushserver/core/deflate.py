"""Compressed messages (permessage-deflate, RFC 7692), each by itself: no context is taken over either way.

So a compressed frame is the same for everybody who negotiated it, and between messages nothing is kept for
a connection. `deflate_offer` negotiates it.
"""

from __future__ import annotations

import zlib

from pushserver.core.close_codes import CloseCode
from pushserver.core.frames import RSV1, Binary, Event, FrameParser, ProtocolError, compressed_text_frame

__all__ = ["MAX_DEFLATED_BYTES", "InflatingParser", "deflated_frame", "inflate"]

MAX_DEFLATED_BYTES = 256 * 1024
"""A larger frame is not compressed: that would hold the loop up. This one takes some 2 ms."""
MAX_STREAMS = 16
"""Deflate streams that one message may consist of; what zlib makes is one (RFC 7692 section 7.2.3.4)."""

_LEVEL = 1
"""On JSON a twentieth larger than by zlib's default, which for some contents takes ten times as long."""
_RAW = -zlib.MAX_WBITS
_FLUSHED = b"\x00\x00\xff\xff"
"""What a flush ends in; it is left out of a message (RFC 7692 section 7.2.1)."""
_LAST_BLOCK = b"\x01\x00\x00\xff\xff"


def deflated_frame(payload: bytes | memoryview) -> bytes:
    """A whole text message in one compressed frame, larger than the plain one if there is nothing to save."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW)
    return compressed_text_frame(
        (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[: -len(_FLUSHED)]
    )


def inflate(payload: bytes, max_bytes: int) -> bytes:
    """What a compressed message says. Raises `ProtocolError`: 1007 if it is garbled, 1009 beyond `max_bytes`.

    A bomb is given up at its byte `max_bytes + 1`; the memory for it is never there.
    """
    # A last block behind it, which is only found if the message ends where a block does.
    data, said = payload + _FLUSHED + _LAST_BLOCK, b""
    for _ in range(MAX_STREAMS):
        stream = zlib.decompressobj(_RAW)
        try:
            said += stream.decompress(data, max_bytes + 1 - len(said))
        except zlib.error:
            break
        if len(said) > max_bytes:
            raise ProtocolError(CloseCode.TOO_BIG, f"a message holds at most {max_bytes} bytes")
        if not stream.eof:
            break
        data = stream.unused_data
        if not data:
            return said
    raise ProtocolError(CloseCode.INVALID_DATA, "a compressed message is garbled")


class InflatingParser(FrameParser):
    """A parser for who negotiated compression: messages whose first frame has RSV1 set are inflated.

    `max_message_bytes` bounds both what comes in and what that says.
    """

    __slots__ = ("_message_is_deflated", "_skips")

    _negotiated = frozenset(first | RSV1 for first in (0x01, 0x02, 0x81, 0x82))

    def __init__(self, max_message_bytes: int) -> None:
        super().__init__(max_message_bytes)
        self._message_is_deflated = False
        self._skips = False

    def skip_messages(self) -> None:
        """They are not inflated any more, and come as they are."""
        self._skips = True

    def _message_event(self, first: int, payload: bytes) -> Event | None:
        if self._message is None:
            self._message_is_deflated = bool(first & RSV1)
        return super()._message_event(first & ~RSV1, payload)

    def _whole(self, payload: bytes) -> Event:
        if self._skips:
            return Binary(payload)
        return super()._whole(inflate(payload, self._max_bytes) if self._message_is_deflated else payload)
