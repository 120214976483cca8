from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from redis import Redis
from tornado.ioloop import IOLoop

from pushserver.core.errors import StoreRefusedError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from pushserver.stores.exposure_stream import GROUP, ExposureStream

KEY = "ps:exposures"


class Data:
    """What the stream needs of an event."""

    def __init__(self, data: bytes) -> None:
        self.data = data


def events(count: int) -> list[Data]:
    return [Data(f"event {number}".encode()) for number in range(count)]


@dataclass
class Engine:
    """Where clients connect to, and the port of the node that has the stream."""

    url: str
    port: int


@pytest.fixture(params=["valkey", "redis_server", "redis_cluster"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found = request.getfixturevalue(request.param)
    if request.param == "valkey":
        return Engine(found.connection_url, found.port)
    if request.param == "redis_server":
        return Engine(found.url, found.port)
    return Engine(found.url, found.node_of(KEY).port)


@pytest.fixture
def commands(io_loop: IOLoop, engine: Engine) -> Iterator[Commands]:
    client = connect(engine.url, timeout_ms=4000, max_connections=4)
    commands = Commands(client, Metrics(), timeout_s=4)
    yield commands
    io_loop.run_sync(commands.close)
    io_loop.run_sync(client.aclose)


@pytest.fixture
def stream(commands: Commands) -> ExposureStream:
    return ExposureStream(commands, KEY, 100)


@pytest.fixture
def redis(engine: Engine) -> Iterator[Redis]:
    """The test's own look into the engine."""
    with Redis(port=engine.port) as client:
        yield client


def datas(entries: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [data for _, data in entries]


def ids(entries: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [entry_id for entry_id, _ in entries]


@pytest.mark.gen_test
async def test_an_entry_has_the_json_in_its_field_data(stream: ExposureStream, redis: Redis) -> None:
    assert await stream.add(events(2)) == 2
    assert [fields for _, fields in redis.xrange(KEY) or ()] == [{b"data": b"event 0"}, {b"data": b"event 1"}]


@pytest.mark.gen_test
async def test_what_does_not_fit_is_not_added_and_the_first_ones_are(stream: ExposureStream) -> None:
    assert [await stream.add(events(60)), await stream.add(events(60)), await stream.add(events(1))] == [
        60,
        40,
        0,
    ]
    assert await stream.length() == 100


@pytest.mark.gen_test
async def test_a_bound_that_was_lowered_adds_nothing(commands: Commands, stream: ExposureStream) -> None:
    await stream.add(events(10))
    assert await ExposureStream(commands, KEY, 5).add(events(1)) == 0


@pytest.mark.gen_test
async def test_concurrent_adds_never_exceed_the_bound(stream: ExposureStream) -> None:
    added = await asyncio.gather(*(stream.add(events(7)) for _ in range(30)))
    assert (sum(added), await stream.length()) == (100, 100)


@pytest.mark.gen_test
async def test_a_large_batch_goes_in_parts_of_a_mebibyte(commands: Commands) -> None:
    """What shares the pipeline must not wait for all of it."""
    sent: list[int] = []

    class Noting:
        call = commands.call

        def script(self, name: str, keys: Any, args: Any) -> Any:
            sent.append(sum(len(arg) for arg in args[1:]))
            return commands.script(name, keys, args)

    large = [Data(b"x" * 400_000) for _ in range(5)] + [Data(b"y" * 3_000_000), Data(b"z")]
    stream = ExposureStream(Noting(), KEY, 100)
    assert await stream.add(large) == 7
    assert sent == [800_000, 800_000, 400_000, 3_000_000, 1]
    sent.clear()
    assert await ExposureStream(Noting(), KEY, 8).add(large) == 1
    assert sent == [800_000]


@pytest.mark.gen_test
async def test_no_events_send_nothing(commands: Commands) -> None:
    assert await ExposureStream(commands, KEY, 100).add([]) == 0


@pytest.mark.gen_test
async def test_a_redis_that_is_out_of_memory_still_takes_exposures(
    commands: Commands, stream: ExposureStream, redis: Redis
) -> None:
    await stream.read_new("pod-1", 1)
    redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreRefusedError) as failure:
            await commands.call("SET", f"{{{KEY}}}", "in the same slot")
        added = await stream.add(events(3))
        entries = await stream.read_new("pod-1", 10)
        await stream.finish(ids(entries))
    finally:
        redis.config_set("maxmemory", "0")
    assert (failure.value.kind, added, len(entries), await stream.length()) == ("oom", 3, 3, 0)


@pytest.mark.gen_test
async def test_each_entry_is_read_by_one_consumer(stream: ExposureStream) -> None:
    await stream.add(events(5))
    assert datas(await stream.read_new("pod-1", 3)) == [b"event 0", b"event 1", b"event 2"]
    assert datas(await stream.read_new("pod-2", 3)) == [b"event 3", b"event 4"]
    assert await stream.read_new("pod-3", 3) == []


@pytest.mark.gen_test
async def test_what_was_read_and_not_finished_can_be_read_again_by_its_consumer(
    stream: ExposureStream,
) -> None:
    await stream.add(events(3))
    await stream.read_new("pod-1", 2)
    assert datas(await stream.read_pending("pod-1", 10)) == [b"event 0", b"event 1"]
    assert datas(await stream.read_pending("pod-1", 1)) == [b"event 0"]
    assert await stream.read_pending("pod-2", 10) == []


@pytest.mark.gen_test
async def test_finished_entries_are_gone_and_finishing_twice_is_once(
    stream: ExposureStream, redis: Redis
) -> None:
    await stream.add(events(3))
    entries = await stream.read_new("pod-1", 2)
    await stream.finish(ids(entries))
    await stream.finish(ids(entries))
    assert (await stream.length(), await stream.read_pending("pod-1", 10)) == (1, [])
    assert redis.xpending(KEY, GROUP)["pending"] == 0


@pytest.mark.gen_test
async def test_an_entry_that_was_deleted_but_not_acknowledged_is_empty_and_can_be_finished(
    stream: ExposureStream, redis: Redis
) -> None:
    """As a connection that breaks within `finish` leaves it."""
    await stream.add(events(1))
    (entry,) = await stream.read_new("pod-1", 1)
    redis.xdel(KEY, entry[0])
    assert await stream.read_pending("pod-1", 1) == [(entry[0], b"")]
    await stream.finish([entry[0]])
    assert await stream.read_pending("pod-1", 1) == []


@pytest.mark.gen_test
async def test_an_entry_without_data_is_empty(stream: ExposureStream, redis: Redis) -> None:
    redis.xadd(KEY, {"other": "field"})
    assert datas(await stream.read_new("pod-1", 1)) == [b""]


@pytest.mark.gen_test
async def test_what_a_dead_consumer_holds_can_be_claimed(stream: ExposureStream) -> None:
    await stream.add(events(3))
    await stream.read_new("dead", 2)
    assert await stream.claim("pod-1", 10, 60_000) == []
    assert datas(await stream.claim("pod-1", 10, 0)) == [b"event 0", b"event 1"]
    assert datas(await stream.read_pending("pod-1", 10)) == [b"event 0", b"event 1"]
    assert await stream.read_pending("dead", 10) == []


@pytest.mark.gen_test
async def test_idle_entries_behind_many_busy_ones_are_claimed_all_the_same(
    stream: ExposureStream, redis: Redis
) -> None:
    await stream.add(events(50))
    await stream.read_new("busy", 40)
    await stream.read_new("dead", 10)
    last = (redis.xrange(KEY) or [])[-1][0]
    assert last is not None
    redis.xclaim(KEY, GROUP, "dead", 0, [last], idle=120_000)
    assert datas(await stream.claim("pod-1", 1, 60_000)) == [b"event 49"]
    assert await stream.claim("pod-1", 1, 60_000) == []


@pytest.mark.gen_test
async def test_every_read_makes_the_group_of_an_emptied_redis_again(
    stream: ExposureStream, redis: Redis
) -> None:
    assert await stream.claim("pod-1", 10, 0) == []
    redis.flushall()
    assert await stream.read_pending("pod-1", 10) == []
    redis.flushall()
    await stream.forget_consumers(0)
    redis.flushall()
    await stream.add(events(2))
    assert datas(await stream.read_new("pod-1", 10)) == [b"event 0", b"event 1"]


@pytest.mark.gen_test
async def test_two_pods_may_make_the_group_at_once(stream: ExposureStream) -> None:
    await stream.add(events(2))
    first, second = await asyncio.gather(stream.read_new("pod-1", 1), stream.read_new("pod-2", 1))
    assert datas(first) + datas(second) == [b"event 0", b"event 1"]


@pytest.mark.gen_test
async def test_consumers_that_are_gone_are_forgotten_but_not_what_they_hold(
    stream: ExposureStream, redis: Redis
) -> None:
    """Pods on Kubernetes have a new name each time, and the group keeps them all."""
    await stream.add(events(2))
    await stream.read_new("holds", 1)
    await stream.finish(ids(await stream.read_new("idle", 1)))
    await stream.forget_consumers(60_000)
    assert {row["name"] for row in redis.xinfo_consumers(KEY, GROUP)} == {b"holds", b"idle"}
    await stream.forget_consumers(0)
    assert {row["name"] for row in redis.xinfo_consumers(KEY, GROUP)} == {b"holds"}


@pytest.mark.gen_test
async def test_a_key_of_another_type_is_refused(stream: ExposureStream, redis: Redis) -> None:
    redis.set(KEY, "no stream")
    for attempt in (stream.add(events(1)), stream.length(), stream.read_new("pod-1", 1)):
        with pytest.raises(StoreRefusedError):
            await attempt


@pytest.mark.gen_test
async def test_a_redis_that_is_away_is_unavailable() -> None:
    client = connect("redis://127.0.0.1:1", timeout_ms=300, max_connections=1)
    commands = Commands(client, Metrics(), timeout_s=1)
    stream = ExposureStream(commands, KEY, 100)
    for attempt in (stream.add(events(1)), stream.read_new("pod-1", 1), stream.finish([b"1-1"])):
        with pytest.raises(StoreUnavailableError):
            await attempt
    await commands.close()
    await client.aclose()
