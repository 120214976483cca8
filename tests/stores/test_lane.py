"""What a command meets when the engine is slow, away, or not ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from redis import Redis

from pushserver.core.errors import StoreError, StoreRefusedError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.stores.commands import Commands
from pushserver.stores.link import Landed
from tests.engines.ports import free_port
from tests.engines.redis_server import RedisServer
from tests.engines.scripted_redis import HANG_UP, ScriptedRedis
from tests.engines.tcp_proxy import TcpProxy
from tests.pod import eventually
from tests.stores.engines import commands_of


async def kind_of(commands: Commands, *args: str) -> str:
    """The kind of error that a command fails with; empty if it does not."""
    try:
        await commands.call(*(args or ("INCR", "k")))
    except StoreError as error:
        return error.kind
    return ""


async def succeeds(commands: Commands) -> bool:
    return await kind_of(commands) == ""


class Callers:
    """Many that want something and try again at once, whatever they hear."""

    def __init__(self, commands: Commands, count: int) -> None:
        self._commands = commands
        self.kinds: set[str] = set()
        self._tasks = [asyncio.ensure_future(self._call()) for _ in range(count)]

    async def _call(self) -> None:
        while (kind := await kind_of(self._commands)) != "":
            self.kinds.add(kind)

    async def served(self) -> None:
        async with asyncio.timeout(10):
            await asyncio.gather(*self._tasks)


# -- time-outs


@pytest.mark.gen_test
async def test_a_command_that_is_not_answered_fails_with_timeout_in_its_time(
    redis_server: RedisServer,
) -> None:
    async with commands_of(redis_server.url, timeout_ms=500) as commands:
        await commands.call("PING")
        redis_server.freeze()
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError) as failure:
            await commands.call("INCR", "k")
        took = time.monotonic() - started
        redis_server.thaw()
    assert failure.value.kind == "timeout"
    assert 0.49 < took < 3


@pytest.mark.gen_test
async def test_a_command_fails_in_its_time_whether_it_was_sent_or_waits(redis_server: RedisServer) -> None:
    """Its time runs from when it was asked for: what waited for its turn has less of it left."""
    async with commands_of(redis_server.url, timeout_ms=1500, max_in_flight=1) as commands:
        await commands.call("PING")
        redis_server.freeze()
        sent = []
        for _ in range(10):
            sent.append(asyncio.ensure_future(time_to_fail(commands)))
            await asyncio.sleep(0.05)
        took = await asyncio.gather(*sent)
        redis_server.thaw()
    assert min(took) > 1.49
    # The second pipeline leaves when the first has failed; a time-out of its own would end it after 3 s.
    assert max(took) < 2.4


async def time_to_fail(commands: Commands) -> float:
    started = time.monotonic()
    assert await kind_of(commands) in {"timeout", "away"}
    return time.monotonic() - started


@pytest.mark.gen_test
async def test_a_pipeline_whose_answers_trickle_is_given_up_as_a_whole() -> None:
    """Each answer alone comes in time, so the connection would never complain."""
    async with (
        ScriptedRedis(lambda _: b":1\r\n", delay_s=0.15) as server,
        commands_of(server.url, timeout_ms=300) as commands,
    ):
        # The last answer would come after half a minute.
        assert await asyncio.gather(*(kind_of(commands) for _ in range(200))) == ["timeout"] * 200
        await eventually(lambda: commands.away)


@pytest.mark.gen_test
async def test_a_slow_engine_costs_latency_only(redis_server: RedisServer) -> None:
    metrics = Metrics()
    async with commands_of(redis_server.url, metrics=metrics) as commands:
        await commands.call("PING")
        redis_server.freeze()
        sent = []
        for number in range(40):
            sent.append(asyncio.ensure_future(commands.call("INCR", f"k{number}")))
            await asyncio.sleep(0.005)
        redis_server.thaw()
        assert await asyncio.gather(*sent) == [1] * 40
    # Four travelled, all others share the fifth.
    assert metrics.registry.get_sample_value("pushserver_redis_round_trips_total") == 6


@pytest.mark.gen_test
async def test_an_engine_frozen_for_a_second_is_back_at_once(redis_server: RedisServer) -> None:
    async with commands_of(redis_server.url, timeout_ms=500) as commands:
        await commands.call("PING")
        redis_server.freeze()
        callers = Callers(commands, 50)
        await asyncio.sleep(1)
        redis_server.thaw()
        started = time.monotonic()
        await callers.served()
        assert time.monotonic() - started < 3
        assert not commands.away
    assert callers.kinds <= {"timeout", "away"}


# -- away


@pytest.mark.gen_test
async def test_however_many_ask_an_engine_that_is_away_is_tried_less_than_ten_times_a_second(
    redis_server: RedisServer,
) -> None:
    async with commands_of(redis_server.url, timeout_ms=500) as commands:
        await commands.call("PING")
        redis_server.kill()
        # In its place, so that tries can be counted.
        async with ScriptedRedis(lambda _: HANG_UP, port=redis_server.port) as nobody:
            callers = Callers(commands, 300)
            await eventually(lambda: commands.away)
            before, started = nobody.connections, time.monotonic()
            await asyncio.sleep(1)
            tries, took = nobody.connections - before, time.monotonic() - started
            assert 1 <= tries < 10 * took
            assert commands.waiting <= 300
        redis_server.start()
        await callers.served()
        assert not commands.away


class Nobody:
    """A client whose only link fails each batch after a while; counts how many travel at a time."""

    closed = False

    def __init__(self) -> None:
        self.connection_pool = self
        self.travelling = 0
        self.most = 0
        self.sizes: list[int] = []

    def idle_link(self) -> Nobody:
        return self

    def send(self, parts: Sequence[bytes], landed: Landed) -> None:
        self.sizes.append(len(parts))
        self.travelling += 1
        self.most = max(self.most, self.travelling)
        asyncio.get_running_loop().call_later(0.01, self._fail, landed)

    def _fail(self, landed: Landed) -> None:
        self.travelling -= 1
        landed(ConnectionError())

    def give_back(self, link: Nobody) -> None:
        """It is free anyway."""

    def drop_idle(self) -> None:
        """It has no connections."""


@pytest.mark.gen_test
async def test_an_engine_that_is_away_is_tried_by_one_pipeline_at_a_time() -> None:
    client = Nobody()
    commands = Commands(client, Metrics(), timeout_s=5, max_in_flight=4)
    sent = [commands.call("PING") for _ in range(5000)]
    await eventually(lambda: commands.away and client.travelling == 0)
    assert (client.most, client.sizes) == (4, [500] * 4)
    # The first pause is short, however many pipelines failed at once.
    assert [node.ordinary._pause_s for node in commands._lanes.all] == [0.1]
    client.most = 0
    await eventually(lambda: len(client.sizes) == 7)
    # Ever smaller, for what does not come back in time may have been too much at once.
    assert (client.most, client.sizes) == (1, [500] * 5 + [250, 125])
    await commands.close()
    await asyncio.gather(*sent, return_exceptions=True)


@pytest.mark.gen_test
async def test_it_comes_back_by_itself_when_redis_is_started_again(redis_server: RedisServer) -> None:
    async with commands_of(redis_server.url, timeout_ms=20_000) as commands:
        await commands.call("SET", "kept", "v")
        redis_server.kill()
        assert await kind_of(commands) == "connection"
        assert commands.away
        waiting = asyncio.ensure_future(commands.call("GET", "kept"))
        await asyncio.sleep(0)
        redis_server.start()
        assert await waiting == b"v"
        assert not commands.away


@pytest.mark.gen_test
async def test_what_has_waited_its_time_for_an_engine_that_is_away_is_told_so() -> None:
    async with commands_of(f"redis://127.0.0.1:{free_port()}", timeout_ms=200) as commands:
        kinds = [await kind_of(commands) for _ in range(8)]
        assert "away" in kinds
        assert set(kinds) <= {"away", "connection"}
        assert commands.away
        assert commands.waiting == 0


@pytest.mark.gen_test
async def test_away_is_over_with_the_first_answer_and_the_fault_lasted_until_then() -> None:
    port = free_port()
    async with commands_of(f"redis://127.0.0.1:{port}") as commands:
        assert commands.last_fault is None
        assert not commands.away
        asked = time.monotonic()
        assert await kind_of(commands) == "connection"
        fault = commands.last_fault
        assert fault is not None
        assert asked < fault < time.monotonic()
        async with ScriptedRedis(lambda _: b":1\r\n", port=port):
            began = time.monotonic()
            await eventually(lambda: succeeds(commands))
            answered = commands.last_fault
            assert answered is not None
            assert answered > began > fault
            assert await succeeds(commands)
        assert not commands.away
        assert commands.last_fault == answered


@pytest.mark.gen_test
async def test_an_engine_that_takes_no_more_clients_counts_as_away(redis_server: RedisServer) -> None:
    with redis_server.client() as redis:
        redis.config_set("maxclients", "1")
        try:
            async with commands_of(redis_server.url) as commands:
                assert await kind_of(commands) == "connection"
                assert commands.away
                redis.config_set("maxclients", "100")
                await eventually(lambda: succeeds(commands))
        finally:
            redis.config_set("maxclients", "100")


@pytest.mark.gen_test
async def test_when_one_connection_is_lost_the_idle_ones_are_not_tried_in_turn(
    redis_server: RedisServer,
) -> None:
    """Each would cost a time-out, when what their address leads to is another now."""
    async with (
        TcpProxy(redis_server.port) as proxy,
        commands_of(f"redis://127.0.0.1:{proxy.port}", timeout_ms=1500) as commands,
    ):
        slow = [asyncio.ensure_future(commands.call("PING"))]
        proxy.partition()
        for _ in range(3):
            await asyncio.sleep(0)
            slow.append(asyncio.ensure_future(commands.call("PING")))
        await eventually(lambda: proxy.connections == 4)
        proxy.heal()
        await asyncio.gather(*slow)
        assert proxy.connections == 4
        redis_server.freeze()
        assert await kind_of(commands) == "timeout"
        await eventually(lambda: proxy.connections == 0)


# -- not ready


async def tries_while(answer: bytes, kind: str) -> tuple[int, float, int]:
    """Tries, seconds and connections while every command is answered with `answer`; then all is well."""
    well = False
    async with (
        ScriptedRedis(lambda _: b":1\r\n" if well else answer) as server,
        commands_of(server.url, timeout_ms=1500) as commands,
    ):
        callers = Callers(commands, 100)
        await eventually(lambda: commands.away)
        before, started = len(server.commands), time.monotonic()
        pipelines = before // 100
        await asyncio.sleep(0.6)
        tries, took = len(server.commands) // 100 - pipelines, time.monotonic() - started
        connections = server.connections
        assert callers.kinds - {"away"} == {kind}
        well = True
        await callers.served()
    return tries, took, connections


@pytest.mark.parametrize(
    "answer, kind",
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        (b"-READONLY You can't write against a read only replica.\r\n", "readonly"),
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", "misconf"),
    ],
)
@pytest.mark.gen_test
async def test_an_engine_that_says_not_now_is_asked_less_than_ten_times_a_second(
    answer: bytes, kind: str
) -> None:
    tries, took, connections = await tries_while(answer, kind)
    assert 1 <= tries < 10 * took
    # Each time anew: after a failover the address may lead to another engine.
    assert connections >= 2


def others(redis: Redis) -> set[str]:
    """The connections there are but this one."""
    return {client["id"] for client in redis.client_list()} - {str(redis.client_id())}


@pytest.mark.gen_test
async def test_a_demoted_master_is_left_and_its_successor_found(redis_server: RedisServer) -> None:
    async with commands_of(redis_server.url) as commands:
        await commands.call("PING")
        with redis_server.client() as redis:
            before = others(redis)
            assert len(before) == 1
            redis.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
            assert await kind_of(commands) == "readonly"
            await eventually(lambda: before.isdisjoint(others(redis)))
            redis.execute_command("REPLICAOF", "NO", "ONE")
            await eventually(lambda: succeeds(commands))
            assert not commands.away


@pytest.mark.gen_test
async def test_an_engine_that_runs_a_script_for_too_long_is_busy(redis_server: RedisServer) -> None:
    with redis_server.client() as redis:
        redis.config_set("busy-reply-threshold", "20")
        try:
            async with commands_of(redis_server.url, timeout_ms=3000) as commands:
                await commands.call("PING")
                endless = asyncio.ensure_future(commands.call("EVAL", "while true do end", 0))
                # In a pipeline of its own.
                await eventually(lambda: commands.waiting == 0)
                await eventually(lambda: is_busy(commands))
                redis.script_kill()
                with pytest.raises(StoreRefusedError):
                    await endless
                assert await succeeds(commands)
        finally:
            redis.config_set("busy-reply-threshold", "5000")


async def is_busy(commands: Commands) -> bool:
    return await kind_of(commands) == "busy"


@pytest.mark.gen_test
async def test_a_refusal_of_one_command_is_no_reason_to_hold_back_others() -> None:
    async with (
        ScriptedRedis(lambda _: b"-OOM command not allowed\r\n") as server,
        commands_of(server.url) as commands,
    ):
        for _ in range(30):
            assert await kind_of(commands) == "oom"
            assert not commands.away
