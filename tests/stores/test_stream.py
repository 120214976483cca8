"""Places in a stream as numbers, and reading one as it grows."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushserver.core.errors import StoreRefusedError, StoreUnavailableError
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from pushserver.stores.stream import StreamReader, fields_of, position_of, stream_id
from tests.engines.redis_cluster import RedisCluster
from tests.engines.redis_server import RedisServer
from tests.engines.scripted_redis import ScriptedRedis
from tests.stores.engines import REAL, commands_of
from tests.stores.readers import reader

__all__ = ["reader"]

on_real_engines = pytest.mark.parametrize("commands", REAL, indirect=True)
parts = st.integers(0, 2**64 - 1)
ids = st.tuples(parts, parts)
quietly = settings(deadline=None)


def reader_on(url: str, timeout_s: float = 5) -> StreamReader:
    return StreamReader(
        connect(url, timeout_ms=int(timeout_s * 1000), max_connections=2), timeout_s=timeout_s
    )


# -- positions


@quietly
@given(ids, ids)
def test_positions_are_in_the_order_of_the_stream(one: tuple[int, int], other: tuple[int, int]) -> None:
    at, then = (position_of(b"%d-%d" % pair) for pair in (one, other))
    assert (at < then) == (one < other)
    assert (at == then) == (one == other)


@quietly
@given(ids)
def test_a_position_is_the_id_again(pair: tuple[int, int]) -> None:
    text = "{}-{}".format(*pair)
    assert stream_id(position_of(text.encode())) == text


@pytest.mark.parametrize("text", [b"", b"-", b"1", b"1-", b"-1", b"1-2-3", b"x-1", b"1-x", b"\xff-1", b"$"])
def test_what_is_no_id_is_no_position(text: bytes) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        position_of(text)


def test_fields_are_found_by_name() -> None:
    assert fields_of([b"a", b"1", b"b", b""]) == {b"a": b"1", b"b": b""}
    assert fields_of([]) == {}


# -- reading


async def add(commands: Commands, key: str, *values: int) -> list[int]:
    return [position_of(await commands.call("XADD", key, "*", "number", value)) for value in values]


@on_real_engines
@pytest.mark.gen_test
async def test_what_stands_behind_a_place_is_read_in_order_and_in_portions(
    commands: Commands, reader: StreamReader
) -> None:
    places = await add(commands, "stream", *range(5))
    assert await reader.read("stream", 0, 3) == [
        (place, [b"number", b"%d" % number]) for number, place in enumerate(places[:3])
    ]
    assert [at for at, _ in await reader.read("stream", places[2], 3)] == places[3:]


@on_real_engines
@pytest.mark.gen_test
async def test_a_read_waits_for_what_comes_and_holds_up_no_other(
    commands: Commands, reader: StreamReader
) -> None:
    """Two streams are followed at a time, by one reader."""
    reads = [asyncio.ensure_future(reader.read(key, 0, 10)) for key in ("one", "other")]
    # Not answered before there is something: a read of another kind passes meanwhile.
    assert await commands.call("PING") == b"PONG"
    for number, (key, read) in enumerate(zip(("one", "other"), reads, strict=True)):
        (place,) = await add(commands, key, number)
        assert await read == [(place, [b"number", b"%d" % number])]


@pytest.mark.parametrize("commands", ["redis_server"], indirect=True)
@pytest.mark.gen_test
async def test_a_read_that_finds_nothing_comes_back_empty_after_a_second(
    commands: Commands, reader: StreamReader
) -> None:
    (place,) = await add(commands, "stream", 1)
    for key, after in (("stream", place), ("none", 0)):
        began = asyncio.get_running_loop().time()
        assert await reader.read(key, after, 10) == []
        assert 0.9 < asyncio.get_running_loop().time() - began < 5


@on_real_engines
@pytest.mark.gen_test
async def test_a_key_of_another_type_is_refused_and_the_reader_reads_on(
    commands: Commands, reader: StreamReader
) -> None:
    await commands.call("SET", "stream", "x")
    with pytest.raises(StoreRefusedError):
        await reader.read("stream", 0, 10)
    await commands.call("DEL", "stream")
    places = await add(commands, "stream", 1)
    assert [at for at, _ in await reader.read("stream", 0, 10)] == places


@pytest.mark.gen_test
async def test_a_read_that_is_cancelled_leaves_its_answer_to_nobody(redis_server: RedisServer) -> None:
    """Its connection is not used again: the next read would get what this one asked for."""
    on = reader_on(redis_server.url)
    async with commands_of(redis_server.url) as commands:
        for _ in range(5):
            gives_up = asyncio.ensure_future(on.read("first", 0, 1))
            await _blocked(redis_server)
            gives_up.cancel()
            await asyncio.wait([gives_up])
            await add(commands, "first", 1)
            (place,) = await add(commands, "second", 2)
            assert await on.read("second", place - 1, 1) == [(place, [b"number", b"2"])]
            await commands.call("DEL", "first")
    await on.close()


async def _blocked(server: RedisServer) -> None:
    while True:
        with server.client() as redis:
            if redis.info("clients")["blocked_clients"]:
                return
        await asyncio.sleep(0.005)


@pytest.mark.gen_test
async def test_an_engine_that_hangs_is_given_up_and_one_that_is_back_is_read_again(
    redis_server: RedisServer,
) -> None:
    on = reader_on(redis_server.url, timeout_s=0.4)
    async with commands_of(redis_server.url) as commands:
        places = await add(commands, "stream", 1)
        redis_server.freeze()
        with pytest.raises(StoreUnavailableError) as failure:
            await on.read("stream", 0, 1)
        assert failure.value.kind == "timeout"
        redis_server.thaw()
        assert [at for at, _ in await on.read("stream", 0, 1)] == places
    await on.close()


@pytest.mark.gen_test
async def test_an_engine_that_is_away_is_an_error_and_one_that_is_back_is_read_again(
    redis_server: RedisServer,
) -> None:
    on = reader_on(redis_server.url)
    async with commands_of(redis_server.url) as commands:
        places = await add(commands, "stream", 1)
    waiting = asyncio.ensure_future(on.read("stream", places[0], 1))
    await _blocked(redis_server)
    redis_server.kill()
    for read in (waiting, on.read("stream", 0, 1)):
        with pytest.raises(StoreUnavailableError):
            await read
    redis_server.start()
    assert [at for at, _ in await on.read("stream", 0, 1)] == places
    await on.close()


@pytest.mark.gen_test
async def test_a_read_waits_less_than_the_socket_does() -> None:
    """Else each quiet second would look like an engine that hangs."""
    for timeout_s, block_ms in ((0.4, 200), (4, 1000), (0.001, 1)):
        async with ScriptedRedis(lambda command: b"*-1\r\n") as scripted:
            on = reader_on(scripted.url, timeout_s=5)
            given = StreamReader(on._client, timeout_s=timeout_s)
            assert await given.read("stream", 0, 7) == []
            assert scripted.commands == [
                b"XREAD COUNT 7 BLOCK %d STREAMS stream 0-0".replace(b"%d", b"%d" % block_ms).split()
            ]
            await on.close()


@pytest.mark.gen_test(timeout=60)
async def test_who_reads_on_and_on_ends_when_cancelled_at_whatever_moment(redis_server: RedisServer) -> None:
    """Else a pod would not exit: a cancel that meets the end of a write is lost below."""
    for turns in range(16):
        reader = StreamReader(connect(redis_server.url, timeout_ms=1000, max_connections=1), timeout_s=0.1)
        await reader.read("stream", 0, 1)
        reading = asyncio.ensure_future(_read_on(reader))
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading], timeout=5)
        assert reading.cancelled(), turns
        await reader.close()


async def _read_on(reader: StreamReader) -> None:
    while True:
        await reader.read("stream", 0, 1)


# -- in a cluster


def key_on(cluster: RedisCluster, node: RedisServer) -> str:
    return next(f"key-{number}" for number in range(1000) if cluster.node_of(f"key-{number}") is node)


@pytest.mark.gen_test
async def test_streams_on_every_node_are_found(redis_cluster: RedisCluster) -> None:
    """At first only the node of the URL is known; its answer tells who serves the slot."""
    on = reader_on(redis_cluster.url)
    async with commands_of(redis_cluster.url) as commands:
        for node in redis_cluster.nodes:
            key = key_on(redis_cluster, node)
            places = await add(commands, key, 1)
            if node is not redis_cluster.nodes[0]:
                with pytest.raises(StoreUnavailableError):
                    await on.read(key, 0, 1)
            assert [at for at, _ in await on.read(key, 0, 1)] == places
    await on.close()


@pytest.mark.gen_test
async def test_a_node_that_is_down_is_an_error_of_its_own_streams_and_comes_back(
    redis_cluster: RedisCluster,
) -> None:
    down, up = redis_cluster.nodes[1], redis_cluster.nodes[2]
    on = reader_on(redis_cluster.url, timeout_s=2)
    places: dict[str, list[int]] = {}
    async with commands_of(redis_cluster.url) as commands:
        for node in (down, up):
            places[key_on(redis_cluster, node)] = await add(commands, key_on(redis_cluster, node), 1)
            with pytest.raises(StoreUnavailableError):
                await on.read(key_on(redis_cluster, node), 0, 1)
    down.kill()
    with pytest.raises(StoreUnavailableError):
        await on.read(key_on(redis_cluster, down), 0, 1)
    assert await on.read(key_on(redis_cluster, up), 0, 1)
    redis_cluster.start()
    for key, there in places.items():
        assert [at for at, _ in await on.read(key, 0, 1)] == there
    await on.close()
