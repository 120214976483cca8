"""What a WebSocket client puts on the wire, made plainly, and what a parser makes of it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest

from pushserver.core.close_codes import CloseCode
from pushserver.core.frames import Event, FrameParser, ProtocolError

FIN = 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MAX = 100_000
KEY = b"\x37\xfa\x21\x3d"


def header(first: int, size: int, masked: int = 0x80) -> bytes:
    if size < 126:
        return bytes((first, masked | size))
    if size < 0x10000:
        return bytes((first, masked | 126)) + size.to_bytes(2, "big")
    return bytes((first, masked | 127)) + size.to_bytes(8, "big")


def client(opcode: int, payload: bytes = b"", fin: int = FIN, key: bytes = KEY) -> bytes:
    """A client's frame, masked byte by byte as the RFC words it."""
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    return header(fin | opcode, len(payload)) + key + masked


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def fragments(*parts: bytes, opcode: int = TEXT) -> bytes:
    opcodes = [opcode] + [CONTINUATION] * (len(parts) - 1)
    fins = [0] * (len(parts) - 1) + [FIN]
    return b"".join(client(op, part, fin) for op, part, fin in zip(opcodes, parts, fins, strict=True))


def run(
    chunks: Iterable[bytes], max_message_bytes: int = MAX, parsing: type[FrameParser] = FrameParser
) -> tuple[list[Event], CloseCode | None, int]:
    """All events of a connection, how it failed (None: it did not), and how many frames were counted."""
    parser = parsing(max_message_bytes)
    events: list[Event] = []
    failed = None
    frames = 0
    for chunk in chunks:
        try:
            events += parser.feed(chunk)
        except ProtocolError as error:
            assert failed is None, "a connection fails once"
            events += error.events
            failed = error.close_code
        frames += parser.frames_seen
    return events, failed, frames


def refusal(data: bytes, max_message_bytes: int = MAX) -> CloseCode:
    with pytest.raises(ProtocolError) as caught:
        FrameParser(max_message_bytes).feed(data)
    return caught.value.close_code
