"""RFC 6455 section 5, in the order of the Autobahn test suite's core sections."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pushserver.core.close_codes import CloseCode
from pushserver.core.frames import (
    Binary,
    Close,
    FrameParser,
    Ping,
    Pong,
    ProtocolError,
    Text,
    close_frame,
    ping_frame,
    pong_frame,
    text_frame,
)
from tests.core.client_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    KEY,
    MAX,
    PING,
    PONG,
    TEXT,
    client,
    fragments,
    header,
    pieces,
    refusal,
    run,
)

# Building


@pytest.mark.parametrize(
    "size, expected",
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_a_text_frame_is_unmasked_and_has_the_shortest_length(size: int, expected: bytes) -> None:
    assert text_frame(b"x" * size) == expected + b"x" * size


def test_ping_and_pong_frames_carry_their_payload() -> None:
    assert ping_frame(b"17") == b"\x89\x0217"
    assert pong_frame(b"x" * 125) == b"\x8a\x7d" + b"x" * 125


@pytest.mark.parametrize("build", [ping_frame, pong_frame])
def test_a_control_frame_that_no_client_would_take_is_not_built(build: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ValueError, match="125 bytes"):
        build(b"x" * 126)


def test_a_close_frame_carries_code_and_reason() -> None:
    assert close_frame(CloseCode.KICKED, "bye") == b"\x88\x05\x11\x33bye"
    assert close_frame(1000) == b"\x88\x02\x03\xe8"


@pytest.mark.parametrize(
    "reason, kept",
    [("x" * 200, 123), ("é" * 100, 122), ("€" * 41, 123), ("x€" * 50, 121), ("😀" * 31, 120)],
)
def test_a_long_close_reason_is_cut_at_the_end_of_a_character(reason: str, kept: int) -> None:
    frame = close_frame(1000, reason)
    assert frame[1] == len(frame) - 2 == kept + 2
    assert reason.startswith(frame[4:].decode())


def test_a_close_reason_that_utf8_cannot_hold_does_not_keep_the_connection_open() -> None:
    assert close_frame(1000, "a\ud800b")[4:] == b"a?b"


# Autobahn 1 and 2: messages, pings and pongs


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 128, 65535, 65536])
def test_a_message_of_any_size_arrives_unmasked(size: int) -> None:
    payload = bytes(i % 127 for i in range(size))
    assert FrameParser(MAX).feed(client(TEXT, payload)) == [Text(payload)]
    assert FrameParser(MAX).feed(client(BINARY, payload)) == [Binary(payload)]


@pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x01", b"\x01\0\0\0"])
def test_every_masking_key_is_undone(key: bytes) -> None:
    assert FrameParser(MAX).feed(client(BINARY, b"\0\xff\x80\x01\0", key=key)) == [
        Binary(b"\0\xff\x80\x01\0")
    ]


@pytest.mark.parametrize("payload", [b"", b"hello", b"\0\xff\xfe", b"\xfe" * 125])
def test_pings_and_pongs_keep_their_payload(payload: bytes) -> None:
    parser = FrameParser(MAX)
    assert parser.feed(client(PING, payload) + client(PONG, payload)) == [Ping(payload), Pong(payload)]


def test_control_frames_are_not_limited_by_the_message_size() -> None:
    assert FrameParser(1).feed(client(PING, b"ten bytes!")) == [Ping(b"ten bytes!")]


# Autobahn 3 to 5: reserved bits, opcodes, fragments


VIOLATIONS = {
    **{f"reserved bits {bits:#x}": client(TEXT | bits, b"x") for bits in range(0x10, 0x80, 0x10)},
    "reserved bit on a control frame": client(PING | 0x40),
    **{f"opcode {opcode}": client(opcode) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "unfinished frame of an unknown opcode": client(3, fin=0),
    "unmasked text": header(FIN | TEXT, 1, masked=0) + b"x",
    "unmasked pong": header(FIN | PONG, 0, masked=0),
    "unmasked text of 126 bytes": header(FIN | TEXT, 126, masked=0) + b"x" * 126,
    "fragmented ping": client(PING, fin=0) + client(CONTINUATION),
    "fragmented pong": client(PONG, fin=0),
    "fragmented close": client(CLOSE, b"\x03\xe8", fin=0),
    "ping of 126 bytes": client(PING, b"x" * 126),
    "pong of 65536 bytes": client(PONG, b"x" * 65536),
    "close of 126 bytes": client(CLOSE, b"\x03\xe8" + b"x" * 124),
    "continuation of nothing": client(CONTINUATION, b"x"),
    "unfinished continuation of nothing": client(CONTINUATION, b"x", fin=0),
    "continuation after the message's end": fragments(b"a", b"b") + client(CONTINUATION),
    "text within a fragmented message": client(TEXT, b"a", fin=0) + client(TEXT, b"b"),
    "binary begun within a fragmented message": client(TEXT, b"a", fin=0) + client(BINARY, b"b", fin=0),
    "16 bits for 125 bytes": b"\x81\xfe\x00\x7d" + KEY + b"x" * 125,
    "64 bits for 65535 bytes": b"\x81\xff" + (65535).to_bytes(8, "big") + KEY,
    "64 bits for nothing": b"\x81\xff" + bytes(8) + KEY,
    "top bit of the length": b"\x81\xff" + (1 << 63).to_bytes(8, "big") + KEY,
    "all bits of the length": b"\x81\xff" + b"\xff" * 8 + KEY,
    "close of one byte": client(CLOSE, b"\x03"),
    **{
        f"close code {code}": client(CLOSE, code.to_bytes(2, "big"))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
}


@pytest.mark.parametrize("data", VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_a_protocol_violation_is_a_1002_however_it_is_cut(data: bytes) -> None:
    assert refusal(data) is CloseCode.PROTOCOL_ERROR
    assert run(pieces(data, range(1, len(data))))[1] is CloseCode.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "data, words",
    [
        (client(TEXT | 0x10), "a reserved bit is set"),
        (client(TEXT | 0x40), "a reserved bit is set"),
        (client(3), "unknown opcode"),
        (header(FIN | TEXT, 1, masked=0) + b"x", "a client's frame must be masked"),
        (client(PING, fin=0), "a control frame must not be fragmented"),
        (client(CLOSE, b"\x03\xee"), "a close code that must not be sent"),
    ],
)
def test_a_violation_names_itself_in_words_that_fit_a_close_frame(data: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=f"^1002: {words}$") as caught:
        FrameParser(MAX).feed(data)
    assert close_frame(caught.value.close_code, caught.value.reason)[4:].decode() == words


def test_fragments_become_one_message() -> None:
    assert FrameParser(MAX).feed(fragments(b"a", b"", b"bc")) == [Text(b"abc")]
    assert FrameParser(MAX).feed(fragments(b"\xff", b"\xfe", opcode=BINARY)) == [Binary(b"\xff\xfe")]
    assert FrameParser(MAX).feed(fragments(b"", b"", b"")) == [Text(b"")]


def test_control_frames_between_fragments_come_first() -> None:
    data = client(TEXT, b"a", fin=0) + client(PING, b"1") + client(PONG, b"2") + client(CONTINUATION, b"b")
    assert FrameParser(MAX).feed(data + client(TEXT, b"c")) == [
        Ping(b"1"),
        Pong(b"2"),
        Text(b"ab"),
        Text(b"c"),
    ]


def test_a_message_after_a_fragmented_one_of_the_other_kind_keeps_its_own_kind() -> None:
    data = fragments(b"\xff", b"", opcode=BINARY) + fragments(b"a", b"b") + client(BINARY, b"\xff")
    assert FrameParser(MAX).feed(data) == [Binary(b"\xff"), Text(b"ab"), Binary(b"\xff")]


# Autobahn 6: UTF-8

NOT_UTF8 = [
    b"\xff", b"a\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80",
    b"\xe2\x82", "κόσμε".encode() + b"\xed\xa0\x80edited",
]  # fmt: skip


@pytest.mark.parametrize("payload", NOT_UTF8)
def test_text_that_is_no_utf8_is_a_1007(payload: bytes) -> None:
    assert refusal(client(TEXT, payload)) is CloseCode.INVALID_DATA
    assert refusal(fragments(payload[:1], payload[1:])) is CloseCode.INVALID_DATA


@pytest.mark.parametrize(
    "text", ["κόσμε", "Hello-µ@ßöäüàá-UTF-8!!", "\x00\x7f\x80\uffff\U0010ffff", "\ufeff"]
)
def test_text_may_be_cut_within_a_character(text: str) -> None:
    payload = text.encode()
    parts = [payload[i : i + 1] for i in range(len(payload))]
    assert FrameParser(MAX).feed(fragments(*parts)) == [Text(payload)]


# Autobahn 7: closing


def test_a_close_frame_gives_its_code_and_reason() -> None:
    assert FrameParser(MAX).feed(client(CLOSE, b"\x03\xe8bye \xe2\x82\xac")) == [Close(1000, "bye €")]
    longest = b"\x0f\x9f" + b"x" * 123
    assert FrameParser(MAX).feed(client(CLOSE, longest)) == [Close(3999, "x" * 123)]


def test_an_empty_close_frame_has_no_code() -> None:
    assert FrameParser(MAX).feed(client(CLOSE)) == [Close(None, "")]


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1014, 3000, 4999]
)
def test_a_close_code_that_may_be_sent_is_taken(code: int) -> None:
    assert FrameParser(MAX).feed(client(CLOSE, code.to_bytes(2, "big"))) == [Close(code, "")]


@pytest.mark.parametrize("reason", NOT_UTF8)
def test_a_close_reason_that_is_no_utf8_is_a_1007(reason: bytes) -> None:
    assert refusal(client(CLOSE, b"\x03\xe8" + reason)) is CloseCode.INVALID_DATA


def test_nothing_after_a_close_frame_is_looked_at() -> None:
    parser = FrameParser(MAX)
    data = client(TEXT, b"a") + client(CLOSE) + client(TEXT, b"b") + b"\xff\xff"
    assert parser.feed(data) == [Text(b"a"), Close(None, "")]
    assert parser.frames_seen == 2
    assert parser.feed(client(PING)) == []
    assert parser.frames_seen == 0


def test_a_close_frame_may_interrupt_a_message() -> None:
    data = client(TEXT, b"a", fin=0) + client(CLOSE) + client(CONTINUATION, b"b")
    assert FrameParser(MAX).feed(data) == [Close(None, "")]


# Size


@pytest.mark.parametrize(
    "size, limit", [(11, 10), (126, 125), (65535, 65534), (65536, 65535), (1 << 62, MAX)]
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_too_big_is_a_1009_before_its_payload_arrives(opcode: int, size: int, limit: int) -> None:
    assert refusal(header(FIN | opcode, size), limit) is CloseCode.TOO_BIG


def test_fragments_count_together_and_control_frames_do_not() -> None:
    begun = client(TEXT, b"12345", fin=0) + client(PING, b"123456") + client(CONTINUATION, b"678", fin=0)
    assert FrameParser(10).feed(begun + client(CONTINUATION, b"90")) == [Ping(b"123456"), Text(b"1234567890")]
    assert refusal(begun + header(FIN | CONTINUATION, 3), 10) is CloseCode.TOO_BIG


def test_each_message_has_the_whole_limit() -> None:
    assert FrameParser(3).feed(fragments(b"12", b"3") + client(TEXT, b"456")) == [Text(b"123"), Text(b"456")]


# After a violation


def test_what_was_whole_before_a_violation_is_not_lost() -> None:
    parser = FrameParser(MAX)
    with pytest.raises(ProtocolError) as caught:
        parser.feed(client(TEXT, b"a") + client(PONG, b"1") + client(3) + client(TEXT, b"b"))
    assert caught.value.events == [Text(b"a"), Pong(b"1")]
    assert parser.frames_seen == 2


def test_a_connection_on_which_nothing_came_has_seen_no_frame() -> None:
    assert FrameParser(MAX).frames_seen == 0


def test_a_connection_fails_once_and_is_then_deaf() -> None:
    parser = FrameParser(MAX)
    assert refusal(client(3)) is CloseCode.PROTOCOL_ERROR
    with pytest.raises(ProtocolError):
        parser.feed(client(TEXT, b"a", fin=0) + client(3))
    assert parser.feed(client(3) + client(PING)) == []
    assert parser.frames_seen == 0
