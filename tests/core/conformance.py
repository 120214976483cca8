"""What a server has to make of a client's frames, as the Autobahn test suite has it (sections 1 to 7, 9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pushserver.core.frames import Binary, Close, Event, Ping, Pong, Text
from tests.core.client_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    KEY,
    PING,
    PONG,
    TEXT,
    client,
    fragments,
    header,
)

LIMIT = 65_536
"""Bytes of a message at most: what `limits.max_frame_bytes` is by default."""


@dataclass(frozen=True)
class Case:
    """What a client sends, what that says, and the close code if it is a violation (None: it is none)."""

    name: str
    data: bytes = field(repr=False)
    events: Sequence[Event] = field(default=(), repr=False)
    code: int | None = None


def cases() -> Iterator[Case]:
    """All of them. Nothing behind a violation says anything, so most violations have something there."""
    yield from framing()
    yield from pings()
    yield from reserved()
    yield from opcodes()
    yield from fragmentation()
    yield from utf8()
    yield from closes()
    yield from limits()


TRAILER, BEHIND = client(TEXT, b"behind it"), Text(b"behind it")


def violation(name: str, data: bytes, *events: Event, code: int = 1002) -> Case:
    return Case(name, data + TRAILER, events, code)


def text_of(size: int) -> bytes:
    return bytes(32 + i % 90 for i in range(size))


def framing() -> Iterator[Case]:
    for size in (0, 1, 3, 4, 5, 124, 125, 126, 127, 128, 255, 256, 65_534, 65_535, 65_536):
        payload = text_of(size)
        yield Case(f"1.1 text of {size} bytes", client(TEXT, payload) + TRAILER, [Text(payload), BEHIND])
        yield Case(
            f"1.2 binary of {size} bytes", client(BINARY, payload) + TRAILER, [Binary(payload), BEHIND]
        )
    for size in (0, 1, 125):
        for first, kind in ((TEXT, "text"), (BINARY, "binary"), (PING, "ping"), (CLOSE, "close")):
            payload = b"x" * size
            yield violation(f"1.3 {size} bytes of {kind} in 16 bits", _in_16_bits(first, payload))
            yield violation(f"1.3 {size} bytes of {kind} in 64 bits", _in_64_bits(first, payload))
    for size in (126, 127, 65_535):
        yield violation(f"1.3 {size} bytes of text in 64 bits", _in_64_bits(TEXT, text_of(size)))
    for length in (1 << 63, (1 << 63) + 1, (1 << 64) - 1):
        yield violation(f"1.3 a length of {length:#x}", _in_64_bits(TEXT, b"", length))
    for opcode in (TEXT, BINARY, CLOSE, PING, PONG):
        for size in (0, 5, 125, 126, 65_536):
            if opcode < CLOSE or size <= 125:
                data = header(FIN | opcode, size, masked=0) + b"\x03\xe8xxx"[:size].ljust(size, b"x")
                yield violation(f"1.4 opcode {opcode} unmasked, {size} bytes", data)
    yield violation(
        "1.4 an unmasked continuation",
        client(TEXT, b"a", fin=0) + header(FIN | CONTINUATION, 1, masked=0) + b"b",
    )
    for key in (bytes(4), b"\xff" * 4, b"\x00\x00\x00\x01", b"\x81\x88\x89\x8a"):
        yield Case(
            f"1.5 masked by {key.hex()}", client(TEXT, b"\x00masked\x7f", key=key), [Text(b"\x00masked\x7f")]
        )


def _in_16_bits(opcode: int, payload: bytes) -> bytes:
    return bytes((FIN | opcode, 0x80 | 126)) + len(payload).to_bytes(2, "big") + KEY + payload


def _in_64_bits(opcode: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return bytes((FIN | opcode, 0x80 | 127)) + size.to_bytes(8, "big") + KEY + payload


def pings() -> Iterator[Case]:
    for size in (0, 1, 124, 125):
        payload = bytes(255 - i for i in range(size))
        yield Case(f"2.1 ping of {size} bytes", client(PING, payload) + TRAILER, [Ping(payload), BEHIND])
        yield Case(f"2.7 pong of {size} bytes", client(PONG, payload) + TRAILER, [Pong(payload), BEHIND])
    for size in (126, 127, 65_535, 65_536):
        for opcode, kind in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
            yield violation(f"2.5 {kind} of {size} bytes", client(opcode, b"\x03\xe8" + b"x" * (size - 2)))
    many = [b"%d" % i for i in range(10)]
    yield Case("2.10 ten pings", b"".join(client(PING, one) for one in many), [Ping(one) for one in many])
    yield Case(
        "2.9 a pong that nobody asked for, then a ping",
        client(PONG, b"mine") + client(PING, b"yours"),
        [Pong(b"mine"), Ping(b"yours")],
    )


def reserved() -> Iterator[Case]:
    before = client(TEXT, b"before") + client(PING, b"1")
    said = (Text(b"before"), Ping(b"1"))
    for bits in range(0x10, 0x80, 0x10):
        for opcode in (TEXT, BINARY, PING, PONG, CLOSE):
            yield violation(
                f"3 opcode {opcode}, reserved bits {bits:#x}", before + client(opcode | bits), *said
            )
        for fin in (0, FIN):
            data = client(TEXT, b"a", fin=0) + client(CONTINUATION | bits, b"b", fin=fin)
            yield violation(f"3 continuation (fin {fin}), reserved bits {bits:#x}", before + data, *said)


def opcodes() -> Iterator[Case]:
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"x" * 5):
            for fin in (0, FIN):
                data = client(TEXT, b"before") + client(opcode, payload, fin=fin)
                yield violation(f"4 opcode {opcode}, fin {fin}, {len(payload)} bytes", data, Text(b"before"))
        yield violation(
            f"4 opcode {opcode} within a message", client(TEXT, b"a", fin=0) + client(opcode, b"x")
        )


def fragmentation() -> Iterator[Case]:
    for opcode, kind in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
        for payload in (b"", b"\x03\xe8"):
            data = client(opcode, payload, fin=0) + client(CONTINUATION, b"", fin=FIN)
            yield violation(f"5.1 {kind} in fragments, {len(payload)} bytes", data)
        within = client(TEXT, b"a", fin=0) + client(opcode, b"\x03\xe8", fin=0)
        yield violation(f"5.1 {kind} in fragments within a message", within)
    for parts in ((b"a", b"b"), (b"", b""), (b"", b"a", b""), (b"a", b"", b"", b"b"), tuple(b"abcdefgh" * 2)):
        split = [bytes((part,)) if isinstance(part, int) else part for part in parts]
        joined = b"".join(split)
        name = f"in fragments of {[len(part) for part in split]} bytes"
        yield Case(f"5.3 text {name}", fragments(*split) + TRAILER, [Text(joined), BEHIND])
        yield Case(f"5.3 binary {name}", fragments(*split, opcode=BINARY) + TRAILER, [Binary(joined), BEHIND])
    a, b = client(TEXT, b"a", fin=0), client(CONTINUATION, b"b")
    ping, pong = client(PING, b"1"), client(PONG, b"2")
    yield Case("5.6 a ping within a message", a + ping + b, [Ping(b"1"), Text(b"ab")])
    yield Case("5.7 a pong within a message", a + pong + b, [Pong(b"2"), Text(b"ab")])
    yield Case(
        "5.19 pings within a message of five fragments, then another",
        a + ping + client(CONTINUATION, b"1", fin=0) + ping + pong + client(CONTINUATION, b"2", fin=0) + ping
        + client(CONTINUATION, b"3", fin=0) + b + fragments(b"c", b"d"),
        [Ping(b"1"), Ping(b"1"), Pong(b"2"), Ping(b"1"), Text(b"a123b"), Text(b"cd")],
    )  # fmt: skip
    for fin in (0, FIN):
        alone = client(CONTINUATION, b"x", fin=fin)
        yield violation(f"5.9 nothing to continue, fin {fin}", alone)
        yield violation(
            f"5.10 nothing to continue any more, fin {fin}", fragments(b"a", b"b") + alone, Text(b"ab")
        )
        yield violation(f"5.12 nothing to continue behind a whole text, fin {fin}", TRAILER + alone, BEHIND)
        for opcode in (TEXT, BINARY):
            data = a + ping + client(opcode, b"b", fin=fin)
            yield violation(f"5.18 opcode {opcode} within a message, fin {fin}", data, Ping(b"1"))


VALID_TEXTS = [
    "κόσμε", "Hello-µ@ßöäüàá-UTF-8!!",
    "\x00", "\x7f", "\x80", "߿", "ࠀ", "￿", "𐀀", "\U0010ffff", "\ud7ff", "\ue000",
    "\ufdd0", "\ufffe", "\ufffd", "\ufeff", "\U0001fffe", "\U0010fffe", "日本語", "e\u0301", "👩‍👩‍👧",
]  # fmt: skip
INVALID_TEXTS = [
    # the RFC's own, lone continuations, lone beginnings
    "κόσμε".encode() + b"\xed\xa0\x80" + b"edited", b"\x80", b"\xbf", b"\x80\xbf\x80", b"\xc2 ", b"\xe0\xa0 ",
    b"\xf0\x90\x80 ", b"\xc2", b"\xdf", b"\xe0\xa0", b"\xef\xbf", b"\xf0\x90\x80", b"\xf4\x8f\xbf",
    # what is no UTF-8 whatever follows
    b"\xfe", b"\xff", b"\xfe\xfe\xff\xff", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    # not the shortest form
    b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf",
    b"\xc0\x80",
    # surrogates, alone and in pairs, and beyond the last character
    b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80",
    b"\xf4\x90\x80\x80", b"\xf7\xbf\xbf\xbf",
]  # fmt: skip


def utf8() -> Iterator[Case]:
    for text in VALID_TEXTS:
        payload = text.encode()
        said = [Text(payload), BEHIND]
        yield Case(f"6.2 {text!a}", client(TEXT, payload) + TRAILER, said)
        for cut in range(1, len(payload)):
            data = fragments(payload[:cut], payload[cut:])
            yield Case(f"6.2 {text!a} cut at {cut}", data + TRAILER, said)
        each = fragments(*(payload[i : i + 1] for i in range(len(payload))))
        yield Case(f"6.2 {text!a} byte by byte", each + TRAILER, said)
    for payload in INVALID_TEXTS:
        name = payload.hex()
        yield violation(f"6.3 {name}", client(TEXT, payload), code=1007)
        yield Case(f"6.3 {name} as binary", client(BINARY, payload), [Binary(payload)])
        data = fragments(b"ok ", *(payload[i : i + 1] for i in range(len(payload))), b"")
        yield violation(f"6.4 {name} byte by byte", data, code=1007)
        interrupted = client(TEXT, payload, fin=0) + client(PING, b"1") + client(CONTINUATION, b"")
        yield violation(f"6.4 {name}, then a ping, then the end", interrupted, Ping(b"1"), code=1007)


VALID_CODES = (
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999
)  # fmt: skip
INVALID_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 32_768, 65_535)


def closes() -> Iterator[Case]:
    yield Case(
        "7.1 nothing counts behind a close", client(CLOSE) + TRAILER + client(CLOSE), [Close(None, "")]
    )
    yield Case("7.1 bytes of no frame behind a close", client(CLOSE) + b"\xff" * 50, [Close(None, "")])
    begun = client(TEXT, b"a", fin=0) + client(CLOSE, b"\x03\xe8") + client(CONTINUATION, b"b")
    yield Case("7.1 a close within a message", begun, [Close(1000, "")])
    yield violation("7.3 a close of one byte", client(CLOSE, b"\x03"))
    for reason in ("", "x", "€" * 41, "x" * 123):
        data = client(CLOSE, b"\x03\xe8" + reason.encode())
        yield Case(f"7.3 a reason of {len(reason)} characters", data, [Close(1000, reason)])
    yield violation("7.3 a reason of 124 bytes", client(CLOSE, b"\x03\xe8" + b"x" * 124))
    for payload in INVALID_TEXTS:
        data = client(CLOSE, b"\x03\xe8" + payload)
        yield violation(f"7.5 the reason {payload.hex()}", data, code=1007)
    for code in VALID_CODES:
        data = client(CLOSE, code.to_bytes(2, "big"))
        yield Case(f"7.7 close code {code}", data, [Close(code, "")])
        yield Case(
            f"7.7 close code {code} and a reason",
            client(CLOSE, code.to_bytes(2, "big") + b"bye"),
            [Close(code, "bye")],
        )
    for code in INVALID_CODES:
        for reason in ("", "bye"):
            data = client(CLOSE, code.to_bytes(2, "big") + reason.encode())
            yield violation(f"7.9 close code {code}, reason {reason!r}", data)
        bad = client(CLOSE, code.to_bytes(2, "big") + b"\xff")
        yield violation(f"7.9 close code {code}, a reason that is no UTF-8", bad)


def limits() -> Iterator[Case]:
    for opcode, kind in ((TEXT, Text), (BINARY, Binary)):
        name = kind.__name__.lower()
        yield violation(f"9.1 a {name} one byte too big", header(FIN | opcode, LIMIT + 1), code=1009)
        yield violation(f"9.1 a {name} of 2^62 bytes", _in_64_bits(opcode, b"", 1 << 62), code=1009)
        payload = text_of(LIMIT)
        for size in (4096, 16_384, 32_768):
            parts = [payload[at : at + size] for at in range(0, LIMIT, size)]
            data = fragments(*parts, opcode=opcode)
            yield Case(f"9.3 a {name} in fragments of {size} bytes", data + TRAILER, [kind(payload), BEHIND])
            more = fragments(*parts, b"x", opcode=opcode)
            yield violation(f"9.3 a {name} one byte too big, in fragments of {size} bytes", more, code=1009)
            begun = client(opcode, payload, fin=0) + client(CONTINUATION, b"", fin=0) * 20
            yield Case(
                f"9.3 {name}, empty fragments behind {size}", begun + client(CONTINUATION), [kind(payload)]
            )
    yield Case("9.7 a thousand small texts", client(TEXT, b"x") * 1000, [Text(b"x")] * 1000)
    yield violation("9.1 nothing to continue is no size", header(FIN | CONTINUATION, LIMIT + 1), code=1002)


CASES = list(cases())
