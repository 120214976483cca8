from __future__ import annotations

import asyncio
import random

import pytest
from structlog.testing import capture_logs

from pushserver.core.errors import StoreRefusedError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.stores.commands import Commands
from pushserver.stores.content import ContentStore
from pushserver.stores.keys import Keys
from tests.engines.redis_server import RedisServer
from tests.engines.scripted_redis import ScriptedRedis
from tests.pod import eventually
from tests.stores.engines import REAL, commands_of
from tests.texts import store_text


def counted(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"pushserver_{name}_total", labels) or 0


def evals(redis_server: RedisServer) -> int:
    with redis_server.client() as redis:
        return int(redis.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"])


# -- batching by tick


@pytest.mark.gen_test
async def test_what_is_asked_for_in_one_turn_of_the_loop_shares_a_pipeline(redis_server: RedisServer) -> None:
    metrics = Metrics()
    async with commands_of(redis_server.url, metrics=metrics) as commands:
        await asyncio.gather(*(commands.call("SET", f"k{number}", number) for number in range(100)))
    assert counted(metrics, "redis_round_trips") == 1
    assert counted(metrics, "redis_commands") == 100


@pytest.mark.gen_test
async def test_it_is_by_turn_and_not_by_timer(redis_server: RedisServer) -> None:
    metrics = Metrics()
    async with commands_of(redis_server.url, metrics=metrics) as commands:
        for number in range(10):
            await commands.call("SET", "k", number)
    assert counted(metrics, "redis_round_trips") == 10


@pytest.mark.gen_test
async def test_a_storm_grows_the_pipelines_and_not_their_number(redis_server: RedisServer) -> None:
    metrics = Metrics()
    async with commands_of(redis_server.url, metrics=metrics) as commands:

        async def user(number: int) -> None:
            await asyncio.sleep(0)
            for _ in range(3):
                await commands.call("INCR", f"k{number}")

        await asyncio.gather(*(user(number) for number in range(2000)))
    assert counted(metrics, "redis_commands") == 6000
    assert 12 <= counted(metrics, "redis_round_trips") <= 24


@pytest.mark.gen_test
async def test_at_most_so_many_pipelines_travel_at_a_time(redis_server: RedisServer) -> None:
    redis_server.freeze()
    async with commands_of(redis_server.url, max_in_flight=2) as commands:
        sent = []
        for _ in range(5):
            sent.append(asyncio.ensure_future(commands.call("PING")))
            await asyncio.sleep(0)
        assert commands.waiting == 3
        redis_server.thaw()
        assert await asyncio.gather(*sent) == [b"PONG"] * 5
        assert commands.waiting == 0


@pytest.mark.parametrize("commands", REAL, indirect=True)
@pytest.mark.gen_test
async def test_each_gets_the_answer_to_its_own_command(commands: Commands) -> None:
    numbers = range(1500)
    await asyncio.gather(*(commands.call("SET", f"k{number}", number) for number in numbers))
    answers = await asyncio.gather(*(commands.call("GET", f"k{number}") for number in numbers))
    assert answers == [str(number).encode() for number in numbers]


@pytest.mark.gen_test
async def test_answers_are_as_the_protocol_has_them(commands: Commands) -> None:
    assert await commands.call("SET", "k", "v") == b"OK"
    assert await commands.call("GET", "none") is None
    assert await commands.call("SETNX", "k", "w") == 0
    assert await commands.call("HSET", "h", "f", 1, "g", 2) == 2
    assert await commands.call("HGETALL", "h") == [b"f", b"1", b"g", b"2"]
    assert await commands.call("HSCAN", "h", b"0", "COUNT", 10) == [b"0", [b"f", b"1", b"g", b"2"]]
    assert await commands.call("ZADD", "z", 1.5, "m") == 1
    assert await commands.call("ZSCORE", "z", "m") == b"1.5"
    assert await commands.call("GET", b"k") == b"v"


# -- errors are each command's own


@pytest.mark.gen_test
async def test_an_error_of_one_command_fails_no_neighbour(commands: Commands) -> None:
    await commands.call("SET", "{x}text", "v")
    answers = await asyncio.gather(
        commands.call("INCR", "{x}a"),
        commands.call("LPUSH", "{x}text", "1"),
        commands.call("INCR", "{x}b"),
        commands.call("NO-SUCH-COMMAND", "{x}text", "hunter2"),
        commands.call("INCR", "{x}c"),
        return_exceptions=True,
    )
    assert [isinstance(answer, StoreRefusedError) for answer in answers] == [False, True, False, True, False]
    assert list(answers[::2]) == [1, 1, 1]
    assert "hunter2" not in str(answers[3])
    assert not commands.away


@pytest.mark.gen_test
async def test_what_cannot_be_encoded_fails_its_caller_and_no_neighbour(commands: Commands) -> None:
    good = commands.call("SET", "k", "v")
    with pytest.raises(ValueError, match="surrogates"):
        await commands.call("SET", "k", "\ud800")
    assert await good == b"OK"


@pytest.mark.gen_test
async def test_errors_are_counted_by_kind_and_each_waiter_has_one_of_its_own(
    redis_server: RedisServer,
) -> None:
    metrics = Metrics()
    async with commands_of(redis_server.url, metrics=metrics) as commands:
        await commands.call("SET", "k", "v")
        sent = [commands.call("LPUSH", "k", "1") for _ in range(3)]
        failures = await asyncio.gather(*sent, return_exceptions=True)
        redis_server.kill()
        sent = [commands.call("GET", "k") for _ in range(3)]
        failures += await asyncio.gather(*sent, return_exceptions=True)
    assert len(set(map(id, failures))) == 6
    assert counted(metrics, "redis_errors", kind="error") == 3
    assert counted(metrics, "redis_errors", kind="connection") == 3


# -- scripts are taught


@pytest.mark.parametrize("commands", REAL, indirect=True)
@pytest.mark.gen_test
async def test_an_engine_that_forgets_its_scripts_is_taught_them_again(
    commands: Commands, keys: Keys
) -> None:
    contents = ContentStore(commands, keys)

    async def write_and_read(number: int) -> bytes | None:
        await store_text(contents, f"m-{number}", str(number), 100)
        stored = await contents.read(f"m-{number}")
        return None if stored is None else stored.text

    for _ in range(3):
        reads = [write_and_read(number) for number in range(300)]
        answers: list[bytes | None]
        answers, _ = await asyncio.gather(
            asyncio.gather(*reads), commands.on_each_node("SCRIPT", "FLUSH", "SYNC")
        )
        assert answers == [str(number).encode() for number in range(300)]


@pytest.mark.gen_test
async def test_a_script_is_taught_once_however_many_wait_for_it(
    redis_server: RedisServer, keys: Keys
) -> None:
    metrics = Metrics()
    with redis_server.client() as redis:
        redis.config_resetstat()
    async with commands_of(redis_server.url, metrics=metrics) as commands:
        contents = ContentStore(commands, keys)
        assert await asyncio.gather(*(contents.read(f"m-{number}") for number in range(400))) == [None] * 400
        await contents.read("m-0")
        looks = [commands.script("presence_look", [f"{{u}}p{n}", f"{{u}}s{n}"], ["f"]) for n in range(400)]
        await asyncio.gather(*looks)
    assert evals(redis_server) == 2
    assert counted(metrics, "redis_errors", kind="error") == 0
    assert counted(metrics, "redis_round_trips") == 5


@pytest.mark.gen_test
async def test_an_engine_that_never_learns_a_script_is_not_asked_for_ever() -> None:
    async with (
        ScriptedRedis(lambda _: b"-NOSCRIPT No matching script.\r\n") as server,
        commands_of(server.url) as commands,
    ):
        looks = [commands.script("presence_look", ["p", "s"], ["f"]) for _ in range(3)]
        failures = await asyncio.gather(*looks, return_exceptions=True)
    assert [type(failure) for failure in failures] == [StoreRefusedError] * 3
    assert len(server.commands) <= 9


# -- cancelled waiters


@pytest.mark.gen_test
async def test_a_cancelled_waiter_neither_cancels_nor_shifts_the_others(redis_server: RedisServer) -> None:
    """redis-py CVE-2023-28858: what was cancelled on its way left its answer to the next user."""
    redis_server.freeze()
    async with commands_of(redis_server.url) as commands:
        waiters = [asyncio.ensure_future(commands.call("ECHO", f"user-{number}")) for number in range(10)]
        await asyncio.sleep(0.01)
        for waiter in waiters[::2]:
            waiter.cancel()
        redis_server.thaw()
        answers = await asyncio.gather(*waiters, return_exceptions=True)
        later = await asyncio.gather(*(commands.call("ECHO", f"later-{number}") for number in range(10)))
    assert answers[1::2] == [f"user-{number}".encode() for number in range(1, 10, 2)]
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
    assert later == [f"later-{number}".encode() for number in range(10)]


@pytest.mark.parametrize("commands", ["redis_server", "redis_cluster"], indirect=True)
@pytest.mark.gen_test
async def test_nobody_ever_gets_what_is_anothers_whoever_is_cancelled_when(commands: Commands) -> None:
    chance = random.Random(11)
    await asyncio.gather(*(commands.call("SET", f"user-{user}", f"data of {user}") for user in range(60)))
    got = 0

    async def read(user: int) -> None:
        nonlocal got
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        answer = await commands.call("GET", f"user-{user}")
        assert answer == f"data of {user}".encode()
        got += 1

    for _ in range(40):
        tasks = [asyncio.ensure_future(read(user)) for user in range(60)]
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        for task in chance.sample(tasks, 20):
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
    assert got >= 40 * 40


@pytest.mark.gen_test
async def test_nobody_gets_an_answer_that_came_after_its_time(redis_server: RedisServer) -> None:
    """What timed out is answered when the engine goes on; its connection is not used again."""
    async with commands_of(redis_server.url, timeout_ms=750) as commands:
        await commands.call("PING")
        redis_server.freeze()
        early = [commands.call("ECHO", f"early-{number}") for number in range(5)]
        failures = await asyncio.gather(*early, return_exceptions=True)
        redis_server.thaw()
        assert [type(failure) for failure in failures] == [StoreUnavailableError] * 5

        async def echo(text: str) -> bool:
            try:
                return bool(await commands.call("ECHO", text) == text.encode())
            except StoreUnavailableError:
                return False

        await eventually(lambda: echo("first"))
        for number in range(50):
            assert await commands.call("ECHO", f"later-{number}") == f"later-{number}".encode()


@pytest.mark.gen_test
async def test_what_nobody_waits_for_any_more_is_not_sent() -> None:
    async with ScriptedRedis(lambda command: b":1\r\n") as server, commands_of(server.url) as commands:
        abandoned = asyncio.ensure_future(commands.call("INCR", "abandoned"))
        abandoned.cancel()
        assert await commands.call("INCR", "wanted") == 1
    assert server.commands == [[b"INCR", b"wanted"]]


# -- the bound, and the end


@pytest.mark.gen_test
async def test_a_full_queue_refuses_at_once_and_what_waits_is_served(redis_server: RedisServer) -> None:
    metrics = Metrics()
    redis_server.freeze()
    async with commands_of(redis_server.url, metrics=metrics, max_waiting=10, max_in_flight=1) as commands:
        first = asyncio.ensure_future(commands.call("PING"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sent = [commands.call("ECHO", str(number)) for number in range(13)]
        for refused in sent[10:]:
            with pytest.raises(StoreUnavailableError) as failure:
                await refused
            assert failure.value.kind == "busy"
        redis_server.thaw()
        assert await asyncio.gather(first, *sent[:10]) == [b"PONG", *(b"%d" % number for number in range(10))]
        assert await commands.call("PING") == b"PONG"
    assert counted(metrics, "redis_errors", kind="busy") == 3


@pytest.mark.gen_test
async def test_closing_waits_for_what_travels_and_fails_what_waits() -> None:
    async with ScriptedRedis(lambda command: b"+PONG\r\n") as server:
        url = server.url
        async with commands_of(url) as commands:
            travelling = asyncio.ensure_future(commands.call("PING"))
            await asyncio.sleep(0)
        assert await travelling == b"PONG"
    async with commands_of(url) as commands:
        with pytest.raises(StoreUnavailableError):
            await commands.call("PING")
        waiting = asyncio.ensure_future(commands.call("PING"))
        await asyncio.sleep(0)
        assert commands.away
    with pytest.raises(StoreUnavailableError) as failure:
        await waiting
    assert failure.value.kind == "closed"


@pytest.mark.gen_test
async def test_every_node_answers_what_is_asked_of_each(commands: Commands) -> None:
    answers = await commands.on_each_node("PING")
    assert set(answers) == {b"PONG"}
    assert len(answers) in {1, 3}


# -- what an operator has to know


@pytest.mark.gen_test
async def test_a_command_that_redis_refuses_is_told_with_its_key_and_not_again_at_once(
    redis_server: RedisServer,
) -> None:
    keys = ["ps:inbox:{alice}", "ps:seq:{alice}", "ps:missed:{alice}"]
    with redis_server.client() as redis:
        redis.set(keys[0], "no list")
    async with commands_of(redis_server.url) as commands:
        with capture_logs() as lines:
            for _ in range(3):
                with pytest.raises(StoreRefusedError):
                    await commands.script("inbox_read", keys, [10])
    told = [line for line in lines if line["event"] == "redis.refused"]
    assert [line["keys"] for line in told] == [(b"ps:inbox:{alice}",)]
    assert "WRONGTYPE" in told[0]["reason"]
