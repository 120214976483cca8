"""Links in lanes: lost, late, too much said; and scripts for many that share one future."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from pushserver.core.errors import StoreError, StoreRefusedError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from tests.engines.redis_server import RedisServer
from tests.engines.redis_tls import RedisTls
from tests.engines.scripted_redis import HANG_UP, ScriptedRedis
from tests.garbage import circles
from tests.pod import eventually
from tests.stores.engines import commands_of

MIB = 1024 * 1024


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
        return self.instead if self.count == self.at else b"$%d\r\n%s\r\n" % (len(command[1]), command[1])


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


@pytest.mark.parametrize("side", ["ours", "the engine's"])
@pytest.mark.gen_test
async def test_what_travelled_on_a_connection_that_is_lost_needs_no_collector(
    side: str, redis_server: RedisServer
) -> None:
    """What it is told to leave alone while a command travels would stay for ever."""
    async with commands_of(redis_server.url) as commands:
        await commands.call("PING")
        [node] = commands._lanes.all
        [link] = node.ordinary._pool._links
        with circles() as found:
            sent = asyncio.ensure_future(outcomes(commands, 10))
            # Asked for, and not written yet.
            await asyncio.sleep(0)
            if side == "ours":
                link._transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
            else:
                with redis_server.client() as redis:
                    redis.client_kill_filter(_type="normal", skipme=True)
            assert kinds(await sent) == ["connection"] * 10
            await link.gone.wait()
            del link, sent
        assert not found


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


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
@pytest.mark.gen_test
async def test_when_closing_is_given_up_what_travels_fails_and_nothing_is_opened_any_more(
    scheme: str,
) -> None:
    """An exit must not wait for an engine that hangs."""
    async with ScriptedRedis(lambda _: b"") as server:
        client = connect(server.url.replace("redis", scheme), timeout_ms=60_000, max_connections=8)
        commands = Commands(client, Metrics(), timeout_s=60, max_in_flight=1)
        travels = asyncio.ensure_future(outcomes(commands, 3))
        await eventually(lambda: len(server.commands) == 3)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await commands.close()
        await client.aclose()
        assert kinds(await travels) == ["connection"] * 3
        await eventually(lambda: server.open_connections == 0)
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("redis")]
        assert server.connections == 1


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
