"""A service that sentinels watch over: its master is found, also after it was replaced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from pushserver.core.errors import StoreError, StoreRefusedError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.stores.checks import check_engine
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from pushserver.stores.sentinel import LOOK_EVERY_S
from tests.engines.redis_pair import RedisPair
from tests.engines.redis_sentinel import RedisSentinels
from tests.engines.redis_server import RedisServer
from tests.engines.scripted_redis import HANG_UP, ScriptedRedis
from tests.pod import eventually
from tests.stores.engines import commands_of

FAILOVER_S = 20
"""A generous bound: sentinels need three to five seconds."""


def say(*parts: str) -> bytes:
    """An array of texts, as the protocol has it."""
    return b"".join(
        (b"*%d\r\n" % len(parts), *(b"$%d\r\n%s\r\n" % (len(part), part.encode()) for part in parts))
    )


def names(port: int, epoch: int) -> Callable[[list[bytes]], bytes | None]:
    """A sentinel that names a master, and knows of a failover."""
    return lambda command: (
        say("name", "main", "ip", "127.0.0.1", "port", str(port), "config-epoch", str(epoch))
        if command[:2] == [b"SENTINEL", b"MASTER"]
        else b"+OK\r\n"
    )


def url_of(*sentinels: ScriptedRedis | RedisServer, user: str = "", service: str = "main") -> str:
    hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
    return f"redis+sentinel://{user}{hosts}/{service}"


# -- who the master is


@pytest.mark.gen_test
async def test_commands_go_to_the_master_in_a_database_of_their_own(redis_sentinels: RedisSentinels) -> None:
    async with commands_of(f"{redis_sentinels.url}/3", durability="replica") as commands:
        assert await asyncio.gather(*(commands.call("INCR", f"k{n}") for n in range(50))) == [1] * 50
        assert await commands.publish("boot_take", ["k0"], [0]) == 2
        with capture_logs() as logs:
            await check_engine(commands, Metrics(), "replica")
        assert logs == []
    with redis_sentinels.master().client() as redis:
        assert redis.info("keyspace") == {"db3": {"keys": 50, "expires": 0, "avg_ttl": 0}}


@pytest.mark.gen_test
async def test_the_sentinel_that_knows_of_the_latest_failover_is_believed(redis_pair: RedisPair) -> None:
    """One that was cut off from the others goes on naming the old master, for ever."""
    async with (
        ScriptedRedis(names(redis_pair.replica.port, 6)) as behind,
        ScriptedRedis(names(redis_pair.master.port, 7)) as ahead,
    ):
        for url in (url_of(behind, ahead), url_of(ahead, behind)):
            async with commands_of(url) as commands:
                await commands.call("INCR", "k")


@pytest.mark.gen_test
async def test_a_master_that_says_it_is_none_is_not_talked_to(redis_pair: RedisPair) -> None:
    """It would answer reads, with what is old."""
    async with (
        ScriptedRedis(names(redis_pair.replica.port, 1)) as sentinel,
        commands_of(url_of(sentinel), timeout_ms=1000) as commands,
    ):
        with pytest.raises(StoreUnavailableError) as failure:
            await commands.call("GET", "k")
        assert failure.value.kind == "readonly"
        with redis_pair.replica.client() as redis:
            assert "cmdstat_get" not in redis.info("commandstats")


@pytest.mark.gen_test
async def test_sentinels_that_are_gone_or_hang_leave_the_others_their_time(
    redis_sentinels: RedisSentinels,
) -> None:
    first, second, _ = redis_sentinels.sentinels
    first.kill()
    second.freeze()
    async with commands_of(redis_sentinels.url, timeout_ms=4000) as commands:
        started = time.monotonic()
        await commands.call("INCR", "k")
        assert time.monotonic() - started < 3.5


@pytest.mark.gen_test
async def test_open_connections_need_no_sentinel(redis_sentinels: RedisSentinels) -> None:
    async with commands_of(redis_sentinels.url, timeout_ms=1000) as commands:
        await commands.call("INCR", "k")
        for sentinel in redis_sentinels.sentinels:
            sentinel.freeze()
        assert await commands.call("INCR", "k") == 2
    async with commands_of(redis_sentinels.url, timeout_ms=1000) as commands:
        # Before the command's own time is over, or it would say no more than that.
        with pytest.raises(
            StoreUnavailableError, match="timeout: no sentinel names the master of pushserver"
        ):
            await commands.call("INCR", "k")


@pytest.mark.gen_test
async def test_a_service_that_no_sentinel_knows_is_a_clear_refusal(redis_sentinels: RedisSentinels) -> None:
    url = url_of(*redis_sentinels.sentinels, user=":hunter2@", service="other")
    async with commands_of(url) as commands:
        with pytest.raises(StoreRefusedError, match=r"the master of other: .*No such master") as failure:
            await commands.call("INCR", "k")
    assert "hunter2" not in str(failure.value)


# -- passwords


@pytest.mark.gen_test
async def test_sentinels_and_redis_have_users_and_passwords_of_their_own() -> None:
    def serve(command: list[bytes]) -> bytes:
        return say("master") if command == [b"ROLE"] else b"+OK\r\n"

    async with ScriptedRedis(serve) as master, ScriptedRedis(names(master.port, 1)) as sentinel:
        url = url_of(sentinel, user="me:p%40ss@")
        async with commands_of(f"{url}?sentinel_username=watch&sentinel_password=hunter%262") as commands:
            await commands.call("SET", "k", "v")
        assert sentinel.commands[0] == [b"AUTH", b"watch", b"hunter&2"]
        assert master.commands == [[b"AUTH", b"me", b"p@ss"], [b"ROLE"], [b"SET", b"k", b"v"]]
        sentinel.commands.clear()
        async with commands_of(url) as commands:
            await commands.call("SET", "k", "v")
        # One without a password refuses an AUTH.
        assert sentinel.commands == [[b"SENTINEL", b"MASTER", b"main"]]


@pytest.mark.gen_test
async def test_a_password_that_a_sentinel_does_not_take_is_a_clear_refusal() -> None:
    def refuse(command: list[bytes]) -> bytes:
        return b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"

    async with ScriptedRedis(lambda _: HANG_UP) as down, ScriptedRedis(refuse) as sentinel:
        url = url_of(down, sentinel) + "?sentinel_password=hunter2"
        async with commands_of(url) as commands:
            with pytest.raises(
                StoreRefusedError, match="auth: no sentinel names the master of main"
            ) as failure:
                await commands.call("INCR", "k")
    assert "hunter2" not in str(failure.value)


# -- under load


@pytest.mark.gen_test
async def test_no_more_connections_are_opened_than_allowed_and_none_is_refused(
    redis_sentinels: RedisSentinels,
) -> None:
    """redis-py's own pool for a service raises when all are in use."""
    client: Any = connect(redis_sentinels.url, timeout_ms=2000, max_connections=2)
    with redis_sentinels.master().client() as redis:
        before = len(redis.client_list())
        sent = [client.execute_command("ECHO", str(number)) for number in range(50)]
        assert await asyncio.gather(*sent) == [str(number).encode() for number in range(50)]
        assert len(redis.client_list()) - before <= 2
    await client.aclose()


# -- failover


class Load:
    """Writers and publishers that go on whatever they hear, for as long as it runs."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self.published: list[str] = []
        """Ids that were answered."""
        self.written = 0
        self.kinds: set[str] = set()
        self.slowest = 0.0
        self._tasks = [asyncio.ensure_future(self._publish(number)) for number in range(5)]
        self._tasks += [asyncio.ensure_future(self._write()) for _ in range(20)]

    async def _publish(self, number: int) -> None:
        count = 0
        while True:
            count += 1
            message = f"{number}-{count}"
            keys = [f"{key}:{{u}}" for key in ("inbox", "seq", "seen", "missed", "presence", "gone")]
            args: list[str | int] = [message, 1_000_000, 1000, 600, 1_000_000, 1000, 1000, 1000]
            if await self._did(self._commands.publish("inbox_append", keys, args)):
                self.published.append(message)

    async def _write(self) -> None:
        while True:
            self.written += await self._did(self._commands.call("INCR", "written"))

    async def _did(self, command: Any) -> bool:
        started = time.monotonic()
        try:
            await command
        except StoreError as error:
            self.kinds.add(error.kind)
            return False
        else:
            # Not a storm: other processes have to get on, too.
            await asyncio.sleep(0.005)
            return True
        finally:
            self.slowest = max(self.slowest, time.monotonic() - started)

    async def progress(self, *, publishers: bool = True) -> None:
        """Return when many more writes, and publishes if they can, were answered."""
        written, published = self.written + 100, len(self.published) + 20 * publishers
        await eventually(lambda: self.written >= written and len(self.published) >= published, FAILOVER_S)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def load_of(commands: Commands) -> AsyncIterator[Load]:
    load = Load(commands)
    try:
        yield load
    finally:
        await load.stop()


def written_to(server: RedisServer) -> int | None:
    """Writes that a master was sent by pods; None if it says it is a replica, which is sent its master's.

    What it is and what it was sent is one look.
    """
    with server.client() as redis, redis.pipeline(transaction=True) as pipeline:
        pipeline.role()
        pipeline.info("commandstats")
        role, stats = pipeline.execute()
    if role[0] != "master":
        return None
    writes = ("cmdstat_incr", "cmdstat_eval", "cmdstat_evalsha")
    return sum(int(stats[name]["calls"]) for name in writes if name in stats)


def refused_writes(server: RedisServer) -> int:
    with server.client() as redis:
        return int(redis.info("errorstats").get("errorstat_READONLY", {"count": 0})["count"])


@pytest.mark.gen_test(timeout=90)
async def test_a_master_that_dies_under_load_is_replaced_and_what_was_answered_is_there(
    redis_sentinels: RedisSentinels,
) -> None:
    old = redis_sentinels.master()
    async with (
        commands_of(redis_sentinels.url, timeout_ms=1000, durability="replica") as commands,
        load_of(commands) as load,
    ):
        await load.progress()
        old.kill()
        before = list(load.published)
        await eventually(lambda: redis_sentinels.master() is not old, FAILOVER_S)
        new = redis_sentinels.master()
        # Only its writers: there is no replica to wait for.
        await load.progress(publishers=False)
        assert load.slowest < 4
        with new.client() as redis:
            assert set(before) <= set(redis.lrange("inbox:{u}", 0, -1))
        # The old one comes back as the master that it was, until the sentinels tell it; no pod believes it.
        await asyncio.to_thread(old.start)
        await load.progress(publishers=False)
        assert written_to(old) in {0, None}
        await asyncio.to_thread(redis_sentinels.start)
        # Now there is a replica to wait for.
        await load.progress()
        assert refused_writes(old) == 0
        assert not commands.away
        with new.client() as redis:
            assert set(load.published) <= set(redis.lrange("inbox:{u}", 0, -1))
    # Reconnecting, refused, or late; never anything else.
    assert load.kinds <= {"connection", "timeout", "away", "durability", "readonly"}


@pytest.mark.gen_test(timeout=60)
async def test_a_master_that_is_replaced_alive_is_left_before_it_knows(
    redis_sentinels: RedisSentinels,
) -> None:
    """For eight seconds more it takes what it is sent, on connections that are open: that would be lost."""
    old = redis_sentinels.master()
    async with commands_of(redis_sentinels.url, timeout_ms=1000) as commands, load_of(commands) as load:
        await load.progress()
        before, started = refused_writes(old), time.monotonic()
        redis_sentinels.fail_over()
        await eventually(lambda: redis_sentinels.master() is not old, FAILOVER_S)
        await asyncio.sleep(LOOK_EVERY_S + 0.5)
        writes = written_to(old)
        await load.progress()
        await load.progress()
        assert written_to(old) in {writes, None}
        # Pipelines that were on their way, and none again and again.
        assert refused_writes(old) - before < 10 * (time.monotonic() - started) + 25
    assert load.kinds <= {"connection", "timeout", "away", "readonly"}


@pytest.mark.gen_test(timeout=60)
async def test_a_master_that_hangs_is_left_though_its_connections_stay(
    redis_sentinels: RedisSentinels,
) -> None:
    """Several idle ones of the pool: each tried in turn would cost a time-out."""
    old = redis_sentinels.master()
    async with commands_of(redis_sentinels.url, timeout_ms=1500) as commands, load_of(commands) as load:
        await load.progress()
        old.freeze()
        await eventually(lambda: redis_sentinels.master() is not old, FAILOVER_S)
        replaced = time.monotonic()
        await load.progress()
        assert time.monotonic() - replaced < 6
        old.thaw()
