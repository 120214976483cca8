"""Compressed messages: RFC 7692's examples, any stream however it is cut, and what a bomb costs."""

from __future__ import annotations

import sys
import tracemalloc
import zlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushserver.core.close_codes import CloseCode
from pushserver.core.deflate import MAX_DEFLATED_BYTES, MAX_STREAMS, InflatingParser, deflated_frame, inflate
from pushserver.core.frames import (
    Binary,
    Event,
    FrameParser,
    Ping,
    ProtocolError,
    Text,
    payload_of,
    text_frame,
)
from tests.core.client_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    TEXT,
    client,
    header,
    pieces,
    run,
)
from tests.core.conformance import CASES, LIMIT
from tests.core.oracle import inflated, judge
from tests.cpu_time import at_most, measured_again

RSV1 = 0x40
HELLO = bytes.fromhex("f248cdc9c90700")


def read(data: bytes, limit: int = LIMIT) -> tuple[list[Event], int | None]:
    """What is said and how it fails; the same whole and byte by byte, and what the RFC's words say."""
    whole = run([data], limit, InflatingParser)
    assert whole == run(pieces(data, range(1, len(data))), limit, InflatingParser)
    assert whole == judge(data, limit, deflate=True)
    return whole[:2]


def compressed(payload: bytes, bits: int = 15) -> bytes:
    """A message as other programs compress it."""
    stream = zlib.compressobj(6, zlib.DEFLATED, -bits)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


# -- RFC 7692 section 7.2.3

EXAMPLES = {
    "one block": HELLO,
    "a block without compression": bytes.fromhex("000500faff48656c6c6f00"),
    "a last block": bytes.fromhex("f348cdc9c9070000"),
    "two blocks": bytes.fromhex("f248050000 00ffffcac9c90700"),
}


@pytest.mark.parametrize("payload", EXAMPLES.values(), ids=EXAMPLES)
def test_the_examples_of_the_rfc_say_hello(payload: bytes) -> None:
    assert read(client(TEXT | RSV1, payload)) == ([Text(b"Hello")], None)
    for cut in range(len(payload) + 1):
        data = client(TEXT | RSV1, payload[:cut], fin=0) + client(PING, b"1")
        assert read(data + client(CONTINUATION, payload[cut:])) == ([Ping(b"1"), Text(b"Hello")], None)


def test_the_fragmented_example_of_the_rfc_says_hello() -> None:
    data = client(TEXT | RSV1, bytes.fromhex("f248cd"), fin=0) + client(
        CONTINUATION, bytes.fromhex("c9c90700")
    )
    assert read(data) == ([Text(b"Hello")], None)


def test_an_empty_message_is_one_byte() -> None:
    assert read(client(TEXT | RSV1, b"\x00")) == ([Text(b"")], None)


def test_a_message_that_needs_the_one_before_it_is_garbled() -> None:
    """The RFC's second `Hello` with context takeover, which is never agreed on."""
    shared = client(TEXT | RSV1, bytes.fromhex("f200110000"))
    assert read(client(TEXT | RSV1, HELLO) + shared) == ([Text(b"Hello")], CloseCode.INVALID_DATA)


# -- what is said


@pytest.mark.parametrize("bits", range(9, 16))
def test_messages_of_any_window_are_read(bits: int) -> None:
    payload = b"".join(b"%d," % number for number in range(8000))
    assert read(client(BINARY | RSV1, compressed(payload, bits))) == ([Binary(payload)], None)


def test_compressed_and_plain_messages_take_turns() -> None:
    data = client(TEXT | RSV1, HELLO) + client(TEXT, b"plain") + client(BINARY | RSV1, HELLO)
    assert read(data) == ([Text(b"Hello"), Text(b"plain"), Binary(b"Hello")], None)
    begun = client(TEXT, b"pl", fin=0) + client(CONTINUATION, b"ain") + client(TEXT | RSV1, HELLO)
    assert read(begun) == ([Text(b"plain"), Text(b"Hello")], None)


def test_without_a_compressed_message_everything_is_as_it_was() -> None:
    for case in CASES:
        if "reserved" not in case.name:
            found = run([case.data], LIMIT, InflatingParser)[:2]
            assert found == (list(case.events), case.code), case.name


VIOLATIONS = {
    "on a ping": client(PING | RSV1),
    "on a pong": client(PONG | RSV1, b"x"),
    "on a close": client(CLOSE | RSV1, b"\x03\xe8"),
    "on a continuation": client(TEXT | RSV1, HELLO[:3], fin=0) + client(CONTINUATION | RSV1, HELLO[3:]),
    "on a continuation of a plain message": client(TEXT, b"x", fin=0) + client(CONTINUATION | RSV1, b"x"),
    "on a continuation of nothing": client(CONTINUATION | RSV1, HELLO),
    "with RSV2": client(TEXT | 0x60, HELLO),
    "with RSV3": client(TEXT | 0x50, HELLO),
    "with an unknown opcode": client(3 | RSV1, HELLO),
    "unmasked": header(FIN | TEXT | RSV1, 7, masked=0) + HELLO,
    "within a message": client(TEXT | RSV1, HELLO[:3], fin=0) + client(TEXT | RSV1, HELLO),
    "with a length that is not the shortest": b"\xc1\xfe\x00\x07key!" + HELLO,
}


@pytest.mark.parametrize("data", VIOLATIONS.values(), ids=VIOLATIONS)
def test_rsv1_anywhere_else_is_a_1002(data: bytes) -> None:
    assert read(data)[1] is CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE])
def test_rsv1_that_was_not_negotiated_is_a_1002(opcode: int) -> None:
    assert run([client(opcode | RSV1, HELLO)])[1] is CloseCode.PROTOCOL_ERROR


GARBLED = {
    "no deflate": b"\xff\xff\xff",
    "cut in a block": HELLO[:-2],
    "nothing": b"",
    "a block that says it is longer": bytes.fromhex("002000dfff") + b"Hello",
    "a block that looks back beyond the beginning": bytes.fromhex("f200110000"),
    "a last block without the byte behind it": bytes.fromhex("f348cdc9c90700"),
    "something behind a last block": bytes.fromhex("f348cdc9c9070000ff"),
    "too many last blocks": b"\x03\x00" * MAX_STREAMS + b"\x00",
    "with what a flush ends in": HELLO + b"\x00\x00\xff\xff\x07",
}


@pytest.mark.parametrize("payload", GARBLED.values(), ids=GARBLED)
def test_what_is_garbled_is_a_1007(payload: bytes) -> None:
    for opcode in (TEXT, BINARY):
        assert read(client(opcode | RSV1, payload)) == ([], CloseCode.INVALID_DATA)


def test_a_message_may_have_several_last_blocks() -> None:
    payload = bytes.fromhex("f348cdc9c90700") * (MAX_STREAMS - 1) + b"\x00"
    assert read(client(TEXT | RSV1, payload)) == ([Text(b"Hello" * (MAX_STREAMS - 1))], None)


def test_text_is_utf8_when_it_was_inflated() -> None:
    payload = compressed("κόσμε".encode())
    assert read(client(TEXT | RSV1, payload)) == ([Text("κόσμε".encode())], None)
    assert read(client(TEXT | RSV1, compressed(b"\xed\xa0\x80"))) == ([], CloseCode.INVALID_DATA)
    assert read(client(BINARY | RSV1, compressed(b"\xed\xa0\x80"))) == ([Binary(b"\xed\xa0\x80")], None)


# -- bombs


def test_a_message_may_say_as_much_as_is_allowed_and_no_byte_more() -> None:
    assert read(client(TEXT | RSV1, compressed(b"x" * LIMIT))) == ([Text(b"x" * LIMIT)], None)
    for more in (1, 2, LIMIT, 100 * LIMIT):
        assert read(client(TEXT | RSV1, compressed(b"x" * (LIMIT + more)))) == ([], CloseCode.TOO_BIG)


def test_what_comes_in_is_bounded_as_well() -> None:
    assert read(header(FIN | TEXT | RSV1, LIMIT + 1))[1] is CloseCode.TOO_BIG
    begun = client(TEXT | RSV1, compressed(b"x" * 50)[:5], fin=0)
    assert read(begun + header(FIN | CONTINUATION, LIMIT))[1] is CloseCode.TOO_BIG


@pytest.mark.parametrize("streams", [1, 10])
def test_a_bomb_takes_no_more_memory_than_a_message_may(streams: int) -> None:
    """64 MiB in 64 KiB. zlib's own window is 32 KiB."""
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    one = last.compress(bytes(64 * 1024 * 1024 // streams)) + last.flush()
    bomb = client(BINARY | RSV1, one * streams + b"\x00")
    assert len(bomb) < LIMIT + 1000
    parser = InflatingParser(LIMIT)
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError) as caught:
            parser.feed(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.close_code is CloseCode.TOO_BIG
    assert peak < 8 * LIMIT


def test_a_parser_that_is_idle_holds_two_flags_more() -> None:
    parser = InflatingParser(LIMIT)
    assert parser.feed(client(TEXT | RSV1, HELLO)) == [Text(b"Hello")]
    assert not hasattr(parser, "__dict__")
    assert sys.getsizeof(parser) == sys.getsizeof(FrameParser(LIMIT)) + 16
    slots = [*FrameParser.__slots__, *InflatingParser.__slots__]
    assert all(getattr(parser, slot) is None or type(getattr(parser, slot)) in {int, bool} for slot in slots)


# -- what the server sends


@given(st.text(max_size=2000).map(str.encode))
def test_a_compressed_frame_says_what_was_compressed(payload: bytes) -> None:
    frame = deflated_frame(payload)
    assert frame[0] == 0xC1
    assert inflate(bytes(payload_of(frame)), 10_000) == payload == inflated(bytes(payload_of(frame)))


@measured_again
def test_no_content_that_is_compressed_holds_the_loop_up() -> None:
    """Two letters in any order are what zlib is slowest at; its default level takes ten times as long."""
    chance = Random(1)
    payload = bytes(97 + chance.getrandbits(1) for _ in range(MAX_DEFLATED_BYTES))
    at_most(0.01, lambda: deflated_frame(payload))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_the_payload_of_a_frame_is_what_it_was_built_of(size: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    assert payload_of(text_frame(payload)) == payload


@pytest.mark.parametrize("bits", range(8, 15))
def test_a_frame_no_larger_than_a_window_can_be_inflated_with_it(bits: int) -> None:
    """Bytes that repeat as far back as they can."""
    size = (1 << bits) - 4
    half = bytes(i * 7919 % 251 for i in range(size // 2))
    payload = bytes(payload_of(deflated_frame(half + half)))
    stream = zlib.decompressobj(-bits)
    assert stream.decompress(payload + b"\x00\x00\xff\xff") == half + half


# -- any stream


@st.composite
def message(draw: st.DrawFn) -> bytes:
    """A message, most compressed, in one or more frames with pings between them; some are broken."""
    payload = draw(
        st.one_of(st.text(max_size=60).map(str.encode), st.binary(max_size=30), st.just(b"x" * 300))
    )
    rsv1 = draw(st.sampled_from([RSV1, RSV1, 0]))
    if rsv1:
        spoilt = bytearray(compressed(payload, draw(st.integers(9, 15))))
        for at, value in draw(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=1)):
            if at < len(spoilt):
                spoilt[at] = value
        payload = bytes(spoilt)
    parts = pieces(payload, draw(st.lists(st.integers(0, len(payload)), max_size=3)))
    data = b""
    for number, part in enumerate(parts):
        first = CONTINUATION if number else draw(st.sampled_from([TEXT, BINARY])) | rsv1
        first |= draw(st.sampled_from([0] * 20 + [RSV1]))
        data += client(first, part, FIN if number == len(parts) - 1 else 0)
        data += draw(st.sampled_from([b"", client(PING, b"1"), client(PONG)]))
    return data


@settings(max_examples=250)
@given(st.lists(message(), max_size=5).map(b"".join), st.data())
def test_any_stream_says_what_the_rfcs_say_however_it_is_cut(wire: bytes, data: st.DataObject) -> None:
    expected = judge(wire, 250, deflate=True)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=6))
    assert run([wire], 250, InflatingParser) == expected
    assert run(pieces(wire, cuts), 250, InflatingParser) == expected
    assert run(pieces(wire, range(1, len(wire))), 250, InflatingParser) == expected
