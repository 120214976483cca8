"""What holds for every stream of frames: what it says, and what it costs."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushserver.core.close_codes import CloseCode
from pushserver.core.frames import (
    Binary,
    Close,
    Event,
    FrameParser,
    Ping,
    Pong,
    ProtocolError,
    Text,
)
from tests.core.client_frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    MAX,
    PING,
    PONG,
    TEXT,
    client,
    fragments,
    header,
    pieces,
    run,
)
from tests.core.oracle import judge
from tests.cpu_time import cpu_seconds

# What a connection costs


def held(parser: FrameParser) -> list[object]:
    return [getattr(parser, slot) for slot in FrameParser.__slots__]


def test_an_idle_parser_holds_nothing_but_itself() -> None:
    parser = FrameParser(MAX)
    busy = fragments(b"a" * 1000, b"b" * 1000) + client(PING, b"1") + client(TEXT, b"x" * 70_000)
    for piece in pieces(busy, range(7, len(busy), 997)):
        parser.feed(piece)
    assert not hasattr(parser, "__dict__")
    assert sys.getsizeof(parser) <= 96
    assert all(value is None or type(value) in {int, bool} for value in held(parser))


def test_a_parser_that_has_ended_holds_nothing() -> None:
    parser = FrameParser(MAX)
    parser.feed(client(TEXT, b"x" * 1000, fin=0))
    with pytest.raises(ProtocolError):
        parser.feed(client(3))
    assert all(value is None or type(value) in {int, bool} for value in held(parser))


@pytest.mark.parametrize("payload", [b"", b"x"])
def test_many_tiny_fragments_cost_no_more_than_their_bytes(payload: bytes) -> None:
    parser = FrameParser(20_000)
    parser.feed(client(TEXT, fin=0))
    data = client(CONTINUATION, payload, fin=0) * 1000
    tracemalloc.start()
    try:
        for _ in range(20):
            assert parser.feed(data) == []
        kept, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert parser.frames_seen == 1000
    assert kept < 2 * 20_000 * len(payload) + 2000
    assert parser.feed(client(CONTINUATION)) == [Text(payload * 20_000)]


class CountedBytes(bytes):
    copied = 0

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        if isinstance(part, bytes):
            self.copied += len(part)
        return part


def test_a_read_full_of_tiny_frames_is_copied_once_not_once_for_each_frame() -> None:
    data = CountedBytes(client(PONG, b"1") * 5000 + client(PONG, b"1")[:-1])
    assert len(FrameParser(MAX).feed(data)) == 5000
    assert data.copied <= len(data)


ZERO_KEY = bytes(4)
LARGE = 8_000_000


@pytest.mark.parametrize(
    "data",
    [
        header(FIN | BINARY, LARGE) + ZERO_KEY + bytes(LARGE),
        header(BINARY, 0)
        + ZERO_KEY
        + (header(0, 40) + ZERO_KEY + bytes(40)) * (LARGE // 40)
        + client(CONTINUATION),
    ],
    ids=["one frame", "fragments"],
)
def test_a_large_message_in_small_reads_takes_linear_time(data: bytes) -> None:
    """A parser that joins what it has anew for each piece needs several times the bound, this one a tenth."""
    said: list[object] = []
    reads = (data[at : at + 32] for at in range(0, len(data), 32))
    assert cpu_seconds(lambda: said.extend(run(reads, LARGE))) < 6
    assert said[:2] == [[Binary(bytes(LARGE))], None]


# What it says

thorough = settings(max_examples=200)
SMALL = 200
"""Bytes of a message at most, where many are to be too big."""

control_payloads = st.binary(max_size=125)
keys = st.binary(min_size=4, max_size=4)
close_codes = st.sampled_from([1000, 1003, 1007, 1014, 3000, 4999])
Sent = tuple[list[bytes], list[Event]]


@st.composite
def control(draw: st.DrawFn) -> Sent:
    payload, key = draw(control_payloads), draw(keys)
    if draw(st.booleans()):
        return [client(PING, payload, key=key)], [Ping(payload)]
    return [client(PONG, payload, key=key)], [Pong(payload)]


@st.composite
def message(draw: st.DrawFn) -> Sent:
    """A message in one or more frames, with control frames between its fragments."""
    is_text = draw(st.booleans())
    payload = draw(st.text(max_size=300)).encode() if is_text else draw(st.binary(max_size=300))
    parts = pieces(payload, draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    frames: list[bytes] = []
    events: list[Event] = []
    for number, part in enumerate(parts):
        opcode = CONTINUATION if number else TEXT if is_text else BINARY
        frames.append(client(opcode, part, FIN if number == len(parts) - 1 else 0, draw(keys)))
        if number < len(parts) - 1:
            for more_frames, more_events in draw(st.lists(control(), max_size=2)):
                frames += more_frames
                events += more_events
    return frames, [*events, Text(payload) if is_text else Binary(payload)]


@st.composite
def stream(draw: st.DrawFn) -> Sent:
    sent = draw(st.lists(st.one_of(message(), control()), max_size=6))
    return [frame for frames, _ in sent for frame in frames], [
        event for _, events in sent for event in events
    ]


Ending = tuple[bytes, list[Event], CloseCode | None, int]
"""The last bytes, what they say, how the connection fails by them, and how many whole frames they are."""

NO_ENDING: Ending = (b"", [], None, 0)
FAILURES: list[Ending] = [
    (client(TEXT, b"\xff"), [], CloseCode.INVALID_DATA, 1),
    (client(CLOSE, b"\x03\xe8\xff"), [], CloseCode.INVALID_DATA, 1),
    (client(CLOSE, b"\x03\xed"), [], CloseCode.PROTOCOL_ERROR, 1),
    (header(FIN | TEXT, MAX + 1), [], CloseCode.TOO_BIG, 0),
    (client(3), [], CloseCode.PROTOCOL_ERROR, 0),
    (client(PING, fin=0), [], CloseCode.PROTOCOL_ERROR, 0),
    (client(CONTINUATION), [], CloseCode.PROTOCOL_ERROR, 0),
    (header(FIN | TEXT, 0, masked=0), [], CloseCode.PROTOCOL_ERROR, 0),
]


@st.composite
def close(draw: st.DrawFn) -> Ending:
    code, reason = draw(close_codes), draw(st.text(max_size=30))
    return client(CLOSE, code.to_bytes(2, "big") + reason.encode()), [Close(code, reason)], None, 1


endings = st.one_of(st.just(NO_ENDING), close(), st.sampled_from(FAILURES))


@thorough
@given(st.data(), stream(), endings, st.binary(max_size=40))
def test_however_a_stream_is_cut_it_says_the_same(
    data: st.DataObject, sent: Sent, ended: Ending, beyond: bytes
) -> None:
    frames, events = sent
    last, last_events, failure, last_frames = ended
    wire = b"".join(frames) + last + (beyond if last else b"")
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=12))
    expected = (events + last_events, failure, len(frames) + last_frames)
    assert run(pieces(wire, cuts)) == expected
    assert run(pieces(wire, range(1, len(wire)))) == expected


@thorough
@given(st.lists(st.binary(max_size=60), max_size=10))
def test_random_bytes_raise_nothing_but_a_protocol_error(chunks: list[bytes]) -> None:
    events, failed, _frames = run(chunks)
    assert failed in {None, CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_DATA, CloseCode.TOO_BIG}
    assert len(events) * 6 <= sum(map(len, chunks))


@st.composite
def any_stream(draw: st.DrawFn) -> bytes:
    """Frames of any kind in any order, some with a header of another size or a few bytes that are others."""
    any_frame = st.builds(
        client,
        st.sampled_from([*range(16), 0, 1, 1, 2, 8, 9, 0x11, 0x41, 0x42, 0x49]),
        st.one_of(
            control_payloads, st.text(max_size=20).map(str.encode), st.binary(min_size=126, max_size=300)
        ),
        st.sampled_from([0, FIN, FIN]),
        keys,
    )
    wire = bytearray(b"".join(draw(st.lists(st.one_of(any_frame, message().map(joined)), max_size=6))))
    for at, value in draw(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=3)):
        if at < len(wire):
            wire[at] = value
    return bytes(wire)


def joined(sent: Sent) -> bytes:
    return b"".join(sent[0])


@settings(max_examples=1000)
@given(any_stream(), st.data())
def test_any_stream_says_what_the_rfc_says_however_it_is_cut(wire: bytes, data: st.DataObject) -> None:
    expected = judge(wire, SMALL)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=6))
    assert run([wire], SMALL) == expected
    assert run(pieces(wire, cuts), SMALL) == expected
    assert run(pieces(wire, range(1, len(wire))), SMALL) == expected


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_random_bytes_say_what_the_rfc_says(wire: bytes) -> None:
    assert run([wire], SMALL) == judge(wire, SMALL)
