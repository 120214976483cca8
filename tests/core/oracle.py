"""What RFC 6455 says to a whole stream of a client, and RFC 7692 if it was negotiated: slow, in their words.

Beside the parser it shares nothing with it but the names of events.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pushserver.core.frames import Binary, Close, Event, Ping, Pong, Text

MAX_STREAMS = 16
"""Deflate streams in one message at most: no RFC's word, but this server's."""
MAY_BE_SENT = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
"""Close codes (section 7.4, and the registry it opens)."""

Judgement = tuple[list[Event], int | None, int]
"""The events, the close code of a violation (None: there is none), and the whole frames before it."""


class Violation(Exception):
    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(str(code))


@dataclass
class Frame:
    fin: int
    rsv1: int
    opcode: int
    payload: bytes | None
    """None: it has not come as a whole."""
    length: int


def judge(stream: bytes, max_bytes: int, *, deflate: bool = False) -> Judgement:
    """What a server has to make of `stream`; messages of more than `max_bytes` are a 1009."""
    events: list[Event] = []
    whole = 0
    message: tuple[Frame, bytes] | None = None
    try:
        for frame in frames(stream, deflate=deflate):
            if frame.opcode < 8:
                message = _part(message, frame, max_bytes)
            if frame.payload is None:
                break
            whole += 1
            if frame.opcode == 8:
                events.append(_close(frame.payload))
                break
            if frame.opcode > 8:
                events.append((Ping if frame.opcode == 9 else Pong)(frame.payload))
            elif frame.fin and message is not None:
                first, payload = message
                message = None
                events.append(_message(first, payload, max_bytes))
    except Violation as violation:
        return events, violation.code, whole
    return events, None, whole


def frames(stream: bytes, *, deflate: bool) -> Iterator[Frame]:
    """Section 5.2, one frame after the other, as far as they have come."""
    at = 0
    while len(stream) - at >= 2:
        first, second = stream[at], stream[at + 1]
        fin, rsv1, others, opcode = first >> 7, first >> 6 & 1, first >> 4 & 3, first & 15
        masked, length = second >> 7, second & 127
        if others or opcode not in {0, 1, 2, 8, 9, 10} or not masked:
            raise Violation(1002)
        if rsv1 and (not deflate or opcode not in {1, 2}):
            raise Violation(1002)
        if opcode >= 8 and (not fin or length > 125):
            raise Violation(1002)
        at += 2
        more = {126: 2, 127: 8}.get(length, 0)
        if len(stream) - at < more:
            return
        if more:
            length = int.from_bytes(stream[at : at + more], "big")
            if length < {2: 126, 8: 65536}[more] or length >= 1 << 63:
                raise Violation(1002)
        at += more
        key, masked_payload = stream[at : at + 4], stream[at + 4 : at + 4 + length]
        at += 4 + length
        whole = len(key) == 4 and len(masked_payload) == length
        payload = bytes(byte ^ key[i % 4] for i, byte in enumerate(masked_payload)) if whole else None
        yield Frame(fin, rsv1, opcode, payload, length)
        if not whole:
            return


def _part(message: tuple[Frame, bytes] | None, frame: Frame, max_bytes: int) -> tuple[Frame, bytes]:
    """Section 5.4."""
    if (frame.opcode == 0) is (message is None):
        raise Violation(1002)
    first, payload = message or (frame, b"")
    if len(payload) + frame.length > max_bytes:
        raise Violation(1009)
    return first, payload + (frame.payload or b"")


def _message(first: Frame, payload: bytes, max_bytes: int) -> Event:
    if first.rsv1:
        payload = inflated(payload, max_bytes)
    if first.opcode == 2:
        return Binary(payload)
    _text(payload)
    return Text(payload)


def inflated(payload: bytes, max_bytes: int = 1 << 30) -> bytes:
    """RFC 7692 section 7.2.2, byte by byte. Blocks may say that they are the last (7.2.3.4)."""
    data, found = payload + b"\x00\x00\xff\xff" + b"\x01\x00\x00\xff\xff", b""
    for _ in range(MAX_STREAMS):
        stream = zlib.decompressobj(-15)
        while not stream.eof:
            try:
                byte = stream.decompress(data, 1)
            except zlib.error:
                raise Violation(1007) from None
            found, data = found + byte, stream.unconsumed_tail
            if len(found) > max_bytes:
                raise Violation(1009)
            if not byte and not data and not stream.eof:
                raise Violation(1007)
        data = stream.unused_data
        if not data:
            return found
    raise Violation(1007)


def _close(payload: bytes) -> Close:
    """Section 5.5.1."""
    if not payload:
        return Close(None, "")
    if len(payload) == 1 or int.from_bytes(payload[:2], "big") not in MAY_BE_SENT:
        raise Violation(1002)
    return Close(int.from_bytes(payload[:2], "big"), _text(payload[2:]))


def _text(payload: bytes) -> str:
    try:
        return payload.decode("utf-8", "strict")
    except UnicodeDecodeError:
        raise Violation(1007) from None
