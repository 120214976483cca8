"""Links: what is read is cut anywhere, ends anywhere, and never goes to whom it does not belong."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions as redis_errors
from redis.asyncio.connection import DefaultParser

from pushserver.stores.link import Link, pack

# -- packing


def read(packed: bytes) -> list[bytes]:
    """A command as an engine reads it."""
    reader = hiredis.Reader()
    reader.feed(packed)
    command: list[bytes] = reader.gets()
    assert not reader.has_data()
    return command


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.one_of(TEXTS, st.binary(), st.integers()), min_size=1))
def test_a_command_arrives_as_it_was_said(args: list[str | bytes | int]) -> None:
    said = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
    assert read(pack(tuple(args))) == said


@given(st.floats(allow_nan=False))
def test_a_fraction_arrives_to_the_last_digit(number: float) -> None:
    assert float(read(pack(("ZADD", number)))[1]) == number


def test_a_member_of_an_enumeration_of_texts_is_a_text() -> None:
    class Kind(StrEnum):
        VIP = "vip"

    assert read(pack(("GET", Kind.VIP, 7))) == [b"GET", b"vip", b"7"]


@pytest.mark.parametrize("argument", [None, True, ["a"], {"a": 1}])
def test_what_is_neither_text_nor_number_is_refused_before_it_is_sent(argument: Any) -> None:
    with pytest.raises(TypeError):
        pack(("SET", "k", argument))


# -- answers in pieces


class Wire:
    """Both ends of a link by hand: a connection of redis-py whose transport keeps what is written."""

    def __init__(self) -> None:
        self.sent = b""
        self.aborted = False
        self.landed: list[list[Any] | BaseException] = []
        self._writer, self._parser, self.transport = self, DefaultParser, self
        self.link = Link(self, lambda link: None)

    def send(self, count: int) -> None:
        self.link.send([pack(("PING",))] * count, self.landed.append)

    def answer(self, data: bytes, cuts: Sequence[int] = ()) -> None:
        """What the engine says, in pieces cut there."""
        ends = sorted({cut % len(data) for cut in cuts} | {len(data)})
        start = 0
        for end in ends:
            while start < end and not self.link.closed:
                view = self.link.get_buffer(-1)
                size = min(end - start, len(view))
                view[:size] = data[start : start + size]
                self.link.buffer_updated(size)
                start += size

    # what the link needs of redis-py

    def get_protocol(self) -> Wire:
        return self

    def set_protocol(self, protocol: object) -> None:
        """It is called by hand here."""

    def write(self, data: bytes) -> None:
        self.sent += data

    def abort(self) -> None:
        self.aborted = True

    def _close(self) -> None:
        assert self.aborted


def encoded(answer: Any) -> bytes:
    """An answer as an engine says it."""
    match answer:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % answer
        case bytes():
            return b"$%d\r\n%s\r\n" % (len(answer), answer)
        case Exception():
            return b"-ERR %s\r\n" % str(answer).encode()
        case _:
            return b"*%d\r\n%s" % (len(answer), b"".join(map(encoded, answer)))


def said(answer: Any) -> Any:
    """An answer so that it can be compared."""
    if isinstance(answer, list):
        return [said(one) for one in answer]
    return str(answer) if isinstance(answer, Exception) else answer


ERRORS = st.text("abc ", max_size=5).map(lambda text: redis_errors.ResponseError(f"x{text}x"))
NUMBERS = st.integers(-(2**63), 2**63 - 1)
ANSWERS = st.recursive(
    st.one_of(st.none(), NUMBERS, st.binary(max_size=40), ERRORS), lambda inner: st.lists(inner, max_size=4)
)


@given(st.lists(st.lists(ANSWERS, min_size=1, max_size=6), min_size=1, max_size=3), st.lists(st.integers(0)))
def test_answers_may_be_cut_anywhere(batches: list[list[Any]], cuts: list[int]) -> None:
    wire = Wire()
    for number, batch in enumerate(batches):
        wire.send(len(batch))
        wire.answer(b"".join(map(encoded, batch)), cuts)
        landed = wire.landed[number]
        assert isinstance(landed, list)
        assert said(landed) == said(batch)
    assert len(wire.landed) == len(batches)
    assert not wire.link.closed


@given(st.lists(ANSWERS, min_size=1, max_size=6), st.integers(0))
def test_a_link_that_ends_before_its_last_byte_fails_the_batch_once(batch: list[Any], cut: int) -> None:
    wire = Wire()
    wire.send(len(batch))
    data = b"".join(map(encoded, batch))
    wire.answer(data[: cut % len(data)] or b"*")
    wire.link.eof_received()
    wire.link.cut(OSError())
    assert [type(landed) for landed in wire.landed] == [redis_errors.ConnectionError]
    assert wire.aborted


@pytest.mark.parametrize("cuts", [(), range(1, 100)])
def test_more_answers_than_were_asked_for_end_the_link(cuts: Sequence[int]) -> None:
    wire = Wire()
    wire.send(2)
    wire.answer(b":1\r\n:2\r\n:3\r\n", cuts)
    assert wire.landed == [[1, 2]]
    assert wire.link.closed


def test_an_answer_to_nothing_ends_the_link_and_what_is_sent_then_fails() -> None:
    wire = Wire()
    wire.answer(b":1\r\n")
    assert wire.link.closed
    wire.send(1)
    assert [type(landed) for landed in wire.landed] == [redis_errors.ConnectionError]
    assert wire.sent == b""


def test_what_is_no_answer_ends_the_link() -> None:
    wire = Wire()
    wire.send(2)
    wire.answer(b":1\r\nHTTP/1.1 400 Bad Request\r\n")
    assert [type(landed) for landed in wire.landed] == [redis_errors.InvalidResponse]
    assert wire.link.closed


@pytest.mark.parametrize(
    "text", ["LOADING the dataset", "NOAUTH required", "ERR max number of clients reached"]
)
def test_an_error_that_is_the_connections_fails_the_whole_batch(text: str) -> None:
    wire = Wire()
    wire.send(3)
    wire.answer(b":1\r\n-%s\r\n:3\r\n" % text.encode())
    [landed] = wire.landed
    assert isinstance(landed, redis_errors.ConnectionError)
    assert wire.link.closed
