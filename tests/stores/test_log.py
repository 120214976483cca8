"""The log: appended once for each id, trimmed by length and age, and read by everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from tornado.ioloop import IOLoop

from pushserver.core.errors import StoreRefusedError, StoreUnavailableError
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from pushserver.stores.keys import Keys
from pushserver.stores.log import LogEntry, LogRange, LogStore
from pushserver.stores.stream import StreamReader, position_of
from tests.pod import eventually
from tests.stores.engines import REAL

# Blocking reads and what XINFO tells are the engine's own; fakeredis has neither.
pytestmark = pytest.mark.parametrize("commands", REAL, indirect=True)

Make = Callable[..., LogStore]


@pytest.fixture
def reader(request: pytest.FixtureRequest, commands: Commands, io_loop: IOLoop) -> Iterator[StreamReader]:
    name = request.node.callspec.params["commands"]
    engine = request.getfixturevalue(name)
    url = engine.connection_url if name == "valkey" else engine.url
    built = StreamReader(connect(url, timeout_ms=5000, max_connections=2), timeout_s=0.4)
    # In a cluster the first read learns who has the stream.
    io_loop.run_sync(lambda: _learn(built))
    yield built
    io_loop.run_sync(built.close)


async def _learn(reader: StreamReader) -> None:
    with suppress(StoreUnavailableError):
        await reader.read("ps:log", 0, 1)


@pytest.fixture
def make(commands: Commands, keys: Keys, reader: StreamReader) -> Make:
    def made(*, max_length: int = 1000, retention_s: int = 3600, idempotency_s: int = 60) -> LogStore:
        return LogStore(
            commands,
            keys,
            reader,
            max_length=max_length,
            retention_s=retention_s,
            idempotency_s=idempotency_s,
        )

    return made


@pytest.fixture
def log(make: Make) -> LogStore:
    return make()


async def everything(log: LogStore) -> list[LogEntry]:
    """All that the log holds."""
    span = await log.range()
    return [entry async for page in log.past(span.last) for entry in page]


async def ids(log: LogStore) -> list[str]:
    return [entry.message_id for entry in await everything(log)]


async def append_all(log: LogStore, first: int, count: int) -> None:
    await asyncio.gather(*(log.append(f"m-{number}", {}, "", 0) for number in range(first, first + count)))


# -- append


@pytest.mark.gen_test
async def test_an_entry_tells_id_target_and_a_small_text(log: LogStore) -> None:
    assert await log.append("m-1", {"vip": ("3", "4"), "hall": ("愛",)}, '{"a":1}', 123)
    assert await log.append("m-2", {}, "", 0)
    first, second = await everything(log)
    assert (first.message_id, first.target) == ("m-1", {"vip": ("3", "4"), "hall": ("愛",)})
    assert (first.text, first.expires_at) == (b'{"a":1}', 123)
    assert (second.message_id, second.target, second.text) == ("m-2", {}, b"")
    assert 0 < first.position < second.position


@pytest.mark.gen_test
async def test_an_id_is_appended_once_also_by_many_at_a_time(log: LogStore) -> None:
    answers = await asyncio.gather(*(log.append("m-1", {}, "", 0) for _ in range(20)))
    assert sorted(answers) == [False] * 19 + [True]
    assert await ids(log) == ["m-1"]


@pytest.mark.gen_test
async def test_an_id_that_was_given_to_a_later_message_is_appended_again(log: LogStore) -> None:
    assert await log.append("m-1", {}, "", 1000)
    assert not await log.append("m-1", {}, "", 1000)
    assert await log.append("m-1", {}, "", 2000)
    assert await ids(log) == ["m-1", "m-1"]


@pytest.mark.gen_test
async def test_an_id_is_remembered_when_its_entry_was_trimmed(make: Make, commands: Commands) -> None:
    log = make()
    await log.append("m-1", {}, "", 0)
    await commands.call("XTRIM", "ps:log", "MAXLEN", "=", 0)
    assert not await log.append("m-1", {}, "", 0)
    assert await ids(log) == []


@pytest.mark.gen_test
async def test_what_is_remembered_of_ids_is_bounded_in_time_and_number(
    make: Make, commands: Commands, keys: Keys
) -> None:
    log = make(max_length=5, idempotency_s=1)
    await append_all(log, 0, 20)
    assert await commands.call("ZCARD", keys.log_seen) == 5
    assert 0 < await commands.call("PTTL", keys.log_seen) <= 1000
    await eventually(lambda: _is_gone(commands, keys.log_seen))
    assert await log.append("m-19", {}, "", 0)


async def _is_gone(commands: Commands, key: str) -> bool:
    return not await commands.call("EXISTS", key)


@pytest.mark.gen_test
async def test_a_repeat_writes_too_so_that_its_durability_can_be_waited_for(
    log: LogStore, commands: Commands, keys: Keys
) -> None:
    await log.append("m-1", {}, "", 0)
    await commands.call("PEXPIRE", keys.log_seen, 1000)
    assert not await log.append("m-1", {}, "", 0)
    assert await commands.call("PTTL", keys.log_seen) > 10_000


@pytest.mark.gen_test
async def test_the_stream_is_trimmed_by_length(make: Make, commands: Commands) -> None:
    """About: whole nodes of the stream, of a hundred entries by default, are taken off."""
    log = make(max_length=100)
    await append_all(log, 0, 999)
    await log.append("last", {}, "", 0)
    assert 100 <= await commands.call("XLEN", "ps:log") <= 200
    assert (await ids(log))[-1] == "last"


@pytest.mark.gen_test
async def test_the_stream_is_trimmed_by_age(make: Make, commands: Commands) -> None:
    log = make(retention_s=3600)
    now_ms = int((await commands.call("TIME"))[0]) * 1000
    for number in range(300):
        await commands.call("XADD", "ps:log", f"{now_ms - 7_200_000}-{number}", "id", "old", "to", "{}")
    await log.append("m-1", {}, "", 0)
    assert await commands.call("XLEN", "ps:log") <= 100
    assert (await ids(log))[-1] == "m-1"


@pytest.mark.gen_test
async def test_a_log_of_another_type_refuses_appends_before_anything_is_written(
    log: LogStore, commands: Commands, keys: Keys
) -> None:
    await commands.call("SET", "ps:log", "x")
    with pytest.raises(StoreRefusedError):
        await log.append("m-1", {}, "", 0)
    assert not await commands.call("EXISTS", keys.log_seen)
    with pytest.raises(StoreRefusedError):
        await log.read(0, 10)


# -- recall


@pytest.mark.gen_test
async def test_a_recall_is_an_entry_without_a_target_and_may_be_repeated(log: LogStore) -> None:
    await log.recall("m-1")
    await log.recall("m-1")
    assert [(one.message_id, one.target) for one in await everything(log)] == [("m-1", None)] * 2


# -- range


@pytest.mark.gen_test
async def test_a_log_that_does_not_exist_spans_nothing(log: LogStore) -> None:
    assert await log.range() == LogRange(0, 0)
    assert await everything(log) == []


@pytest.mark.gen_test
async def test_a_log_that_was_never_trimmed_misses_nothing(log: LogStore) -> None:
    await append_all(log, 0, 3)
    span = await log.range()
    assert span == LogRange(0, (await everything(log))[-1].position)


@pytest.mark.gen_test
async def test_a_trimmed_log_may_miss_what_comes_before_its_first_entry(
    log: LogStore, commands: Commands
) -> None:
    await append_all(log, 0, 3)
    second = (await everything(log))[1].position
    await commands.call("XTRIM", "ps:log", "MAXLEN", "=", 2)
    assert (await log.range()).trimmed_upto == second - 1


@pytest.mark.gen_test
async def test_a_log_that_was_emptied_may_miss_everything(log: LogStore, commands: Commands) -> None:
    await append_all(log, 0, 3)
    last = (await everything(log))[-1].position
    await commands.call("XTRIM", "ps:log", "MAXLEN", "=", 0)
    assert await log.range() == LogRange(last, last)


@pytest.mark.gen_test
async def test_the_past_is_read_in_pages_up_to_a_position(make: Make) -> None:
    log = make(max_length=10_000)
    await append_all(log, 0, 2500)
    last = (await log.range()).last
    await log.append("later", {}, "", 0)
    pages = [page async for page in log.past(last)]
    assert [len(page) for page in pages] == [500] * 5
    positions = [entry.position for page in pages for entry in page]
    assert positions == sorted(set(positions))


# -- read


@pytest.mark.gen_test
async def test_a_read_brings_what_is_behind_a_position_and_how_far_that_is(log: LogStore) -> None:
    await append_all(log, 0, 5)
    first, *_, last = await everything(log)
    entries, upto = await log.read(first.position, 3)
    assert len(entries) == 3
    assert upto == entries[-1].position
    entries, upto = await log.read(upto, 3)
    assert (entries, upto) == ([last], last.position)


@pytest.mark.gen_test
async def test_a_read_waits_for_the_next_entry_and_not_for_ever(log: LogStore) -> None:
    assert await log.read(0, 10) == ([], 0)
    waits = asyncio.ensure_future(log.read(0, 10))
    await asyncio.sleep(0)
    await log.append("m-1", {}, "", 0)
    entries, _ = await waits
    assert [entry.message_id for entry in entries] == ["m-1"]


FOREIGN: list[list[str | bytes]] = [
    ["x", "y"],
    ["id", "m-1"],
    ["to", "{}"],
    ["id", "", "to", "{}"],
    ["id", "no id", "to", "{}"],
    ["id", b"\xff", "to", "{}"],
    ["id", "m-1", "to", ""],
    ["id", "m-1", "to", "{"],
    ["id", "m-1", "to", "null"],
    ["id", "m-1", "to", "[]"],
    ["id", "m-1", "to", '{"color":["red"]}'],
    ["id", "m-1", "to", '{"vip":[{}]}'],
    ["id", "m-1", "to", "[" * 100_000],
    ["id", "m-1", "to", b"\xff"],
    ["id", "m-1", "to", "{}", "expires", "soon"],
    ["id", "m-1", "to", "{}", "expires", "9" * 5000],
    ["recall", ""],
    ["recall", b"\xff"],
]


@pytest.mark.gen_test
async def test_entries_that_say_nothing_known_are_passed_over(log: LogStore, commands: Commands) -> None:
    for flat in FOREIGN:
        await commands.call("XADD", "ps:log", "*", *flat)
    assert await everything(log) == []
    entries, upto = await log.read(0, 1000)
    assert entries == []
    assert upto == position_of((await commands.call("XREVRANGE", "ps:log", "+", "-", "COUNT", 1))[0][0])
    await log.append("m-2", {"vip": ("3",)}, "", 0)
    assert [entry.message_id for entry in (await log.read(upto, 10))[0]] == ["m-2"]
