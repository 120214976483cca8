"""Links: what is read is cut anywhere, ends anywhere, and never goes to whom it does not belong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions as redis_errors
from redis.asyncio.connection import DefaultParser

from pushserver.core.errors import StoreError, StoreRefusedError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.stores.commands import Commands
from pushserver.stores.link import Link, pack
from tests.engines.redis_server import RedisServer
from tests.engines.redis_tls import RedisTls
from tests.engines.scripted_redis import HANG_UP, ScriptedRedis
from tests.pod import eventually
from tests.stores.engines import commands_of

MIB = 1024 * 1024

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


# -- through lanes


async def outcomes(commands: Commands, count: int) -> list[Any]:
    """What becomes of so many commands of one batch."""
    sent = [commands.call("ECHO", str(number)) for number in range(count)]
    return await asyncio.gather(*sent, return_exceptions=True)


def kinds(answers: list[Any]) -> list[str]:
    return [answer.kind if isinstance(answer, StoreError) else "" for answer in answers]


class Echo:
    """Answers ECHO, except to the `at`-th command, counted from 0."""

    def __init__(self, at: int, instead: bytes | None) -> None:
        self.at = at
        self.instead = instead
        self.count = -1

    def __call__(self, command: list[bytes]) -> bytes | None:
        self.count += 1
        return self.instead if self.count == self.at else encoded(command[1])


@pytest.mark.parametrize("at", [0, 3, 9])
@pytest.mark.gen_test
async def test_a_connection_lost_in_the_middle_of_a_batch_fails_all_of_it_and_the_next_has_another(
    at: int,
) -> None:
    async with ScriptedRedis(Echo(at, HANG_UP)) as server, commands_of(server.url) as commands:
        assert kinds(await outcomes(commands, 10)) == ["connection"] * 10
        assert await outcomes(commands, 10) == [b"%d" % number for number in range(10)]
        assert server.connections == 2


@pytest.mark.gen_test
async def test_an_answer_that_does_not_come_ends_its_connection() -> None:
    async with (
        ScriptedRedis(Echo(3, b"")) as server,
        commands_of(server.url, timeout_ms=300) as commands,
    ):
        assert kinds(await outcomes(commands, 10)) == ["timeout"] * 10
        await eventually(lambda: server.open_connections == 0)
        # Had it been kept, these would get what was late.
        await eventually(lambda: echoes(commands))
        assert server.connections == 2


async def echoes(commands: Commands) -> bool:
    try:
        return bool(await commands.call("ECHO", "again") == b"again")
    except StoreError:
        return False


@pytest.mark.gen_test
async def test_an_answer_too_many_is_nobodys() -> None:
    async with ScriptedRedis(Echo(9, b":1\r\n:2\r\n")) as server, commands_of(server.url) as commands:
        assert (await outcomes(commands, 10))[9] == 1
        assert await outcomes(commands, 10) == [b"%d" % number for number in range(10)]
        assert not commands.away


@pytest.mark.gen_test
async def test_an_error_in_the_middle_is_its_own_commands() -> None:
    async with ScriptedRedis(Echo(4, b"-OOM no room\r\n")) as server, commands_of(server.url) as commands:
        answers = await outcomes(commands, 10)
        assert kinds(answers) == [""] * 4 + ["oom"] + [""] * 5
        assert await outcomes(commands, 10) == [b"%d" % number for number in range(10)]
        assert server.connections == 1


@pytest.mark.gen_test
async def test_an_idle_connection_that_the_engine_closes_fails_nobody(redis_server: RedisServer) -> None:
    async with commands_of(redis_server.url) as commands:
        await commands.call("PING")
        with redis_server.client() as redis:
            [ours] = [one["id"] for one in redis.client_list() if one["cmd"] == "ping"]
            redis.client_kill_filter(_id=ours)
        [node] = commands._lanes.all
        await eventually(lambda: not node.ordinary._pool._links)
        assert await commands.call("PING") == b"PONG"


@pytest.mark.gen_test
async def test_large_commands_and_answers_are_nothing_special(redis_server: RedisServer) -> None:
    await exchange_much(redis_server.url)


@pytest.mark.gen_test
async def test_nor_are_they_through_tls(redis_tls: RedisTls) -> None:
    await exchange_much(f"{redis_tls.url}?ssl_ca_certs={redis_tls.authority}")


async def exchange_much(url: str) -> None:
    texts = [b"%d" % number * (MIB // len(b"%d" % number)) for number in range(12)]
    async with commands_of(url) as commands:
        assert await asyncio.gather(*(commands.call("ECHO", text) for text in texts)) == texts
        await asyncio.gather(*(commands.call("SET", f"k{n}", text) for n, text in enumerate(texts)))
        asked = [commands.call("GET", f"k{number % 12}") for number in range(24)]
        assert await asyncio.gather(*asked) == texts * 2
        many = [str(number) for number in range(50_000)]
        await commands.call("RPUSH", "many", *many)
        assert [item.decode() for item in await commands.call("LRANGE", "many", 0, -1)] == many


# -- many with one future


@pytest.mark.gen_test
async def test_scripts_for_many_answer_in_order_with_errors_where_they_belong(
    redis_server: RedisServer,
) -> None:
    async with commands_of(redis_server.url) as commands:
        assert await commands.scripts("boot_take", []) == []
        await commands.call("RPUSH", "list", "x")
        calls = [(["a"], [0]), (["list"], [0]), (["a"], [0])]
        first, refused, second = await commands.scripts("boot_take", calls)
        assert (first, second) == (1, 2)
        assert isinstance(refused, StoreRefusedError)
        redis_server.kill()
        lost = await commands.scripts("boot_take", calls)
    assert [type(fault) for fault in lost] == [StoreUnavailableError] * 3


@pytest.mark.gen_test
async def test_scripts_for_many_beyond_the_bound_are_refused_and_the_others_served(
    redis_server: RedisServer,
) -> None:
    metrics = Metrics()
    async with commands_of(redis_server.url, metrics=metrics, max_waiting=3) as commands:
        answers = await commands.scripts("boot_take", [(["a"], [0])] * 5)
    assert answers[:3] == [1, 2, 3]
    assert kinds(answers[3:]) == ["busy"] * 2
    assert metrics.registry.get_sample_value("pushserver_redis_errors_total", {"kind": "busy"}) == 2


@pytest.mark.gen_test
async def test_scripts_that_nobody_waits_for_any_more_are_not_sent() -> None:
    async with ScriptedRedis(lambda _: b":1\r\n") as server, commands_of(server.url) as commands:
        abandoned = asyncio.ensure_future(commands.scripts("boot_take", [(["a"], [0])] * 5))
        abandoned.cancel()
        assert await commands.call("INCR", "wanted") == 1
    assert server.commands == [[b"INCR", b"wanted"]]
