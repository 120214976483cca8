"""Cursors: how far each user got, written seldom and never back, and never beyond what was exposed."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from pushserver.core.errors import StoreRefusedError
from pushserver.delivery import cursors
from pushserver.delivery.cursors import _Moved
from pushserver.stores.stream import position_of
from tests.callbacks import short_callbacks
from tests.cpu_time import measured_again
from tests.delivery.log_rig import LogRig, log_rig
from tests.engines.redis_server import RedisServer
from tests.gate import hold, refuse, silence
from tests.pod import eventually


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds of writing come quickly."""
    monkeypatch.setattr(cursors, "EVERY_S", 0.05)


@pytest.fixture
def no_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """No round comes while the test lasts."""
    monkeypatch.setattr(cursors, "EVERY_S", 3600.0)


async def stands_at(on: LogRig, message_id: str, user: str = "alice") -> None:
    """Wait until Redis knows that the user has this message."""
    place = await on.at(message_id)

    async def is_there() -> bool:
        return await on.cursor(user) == place

    await eventually(is_there)


# -- when it is written


@pytest.mark.usefixtures("rounds")
@pytest.mark.gen_test
async def test_of_who_stays_it_is_written_every_few_seconds(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.told("m-1")
        await on.confirms(line)
        await stands_at(on, "m-1")
        assert on.app.cursors.waiting == 0


@pytest.mark.usefixtures("no_rounds")
@pytest.mark.gen_test
async def test_of_who_leaves_it_is_written_at_once(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.told("m-1")
        await on.confirms(line)
        before = await on.cursor()
        await on.barrier()
        assert await on.cursor() == before
        line.leave()
        await stands_at(on, "m-1")


@pytest.mark.usefixtures("no_rounds")
@pytest.mark.gen_test
async def test_what_is_settled_after_its_connection_closed_is_written_at_once(
    redis_server: RedisServer,
) -> None:
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.told("m-1")
        exposure = hold(on.app.stores.commands, "exposure_add")
        line.connection.ping(0.0)
        line.pong()
        await exposure.reached.wait()
        line.leave()
        exposure.open()
        await stands_at(on, "m-1")


@pytest.mark.usefixtures("no_rounds")
@pytest.mark.gen_test
async def test_a_drain_writes_all_of_them(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        lines = [await on.comes(f"u-{number}") for number in range(20)]
        await on.told("m-1")
        await on.confirms(*lines)
        assert on.app.cursors.waiting == 20
        await asyncio.wait_for(on.app.cursors.drained(), 5)
        for number in range(20):
            assert await on.cursor(f"u-{number}") == await on.at("m-1")


@pytest.mark.usefixtures("rounds")
@pytest.mark.gen_test
async def test_a_round_writes_one_for_each_user_however_many_messages_and_devices(
    redis_server: RedisServer,
) -> None:
    async with log_rig(redis_server.url, cursors=False) as on:
        lines = [await on.comes(user) for user in ("alice", "alice", "bob")]
        for number in range(10):
            await on.told(f"m-{number}")
            await on.confirms(*lines)
        moves = hold(on.app.stores.commands, "cursor_move")
        on.write_cursors()
        await moves.reached.wait()
        await on.barrier()
        assert moves.count == 2
        moves.open()
        await stands_at(on, "m-9")
        await stands_at(on, "m-9", "bob")


@pytest.mark.usefixtures("rounds")
@pytest.mark.gen_test
async def test_rounds_come_although_somebody_is_always_leaving(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        stays = await on.comes("stays")
        await on.told("m-1")
        await on.confirms(stays)
        on.app.cursors._due["leaves"] = _Moved(1, make=True)
        leaving = True

        positions = itertools.count(2)

        async def always_due() -> None:
            while leaving:
                on.app.cursors._due["leaves"] = _Moved(next(positions), make=True)
                on.app.cursors._wake.set()
                await asyncio.sleep(0)

        task = asyncio.ensure_future(always_due())
        try:
            await stands_at(on, "m-1", "stays")
        finally:
            leaving = False
            await task


# -- how far


@pytest.mark.usefixtures("rounds")
@pytest.mark.gen_test
async def test_it_stays_before_the_first_that_is_not_settled(redis_server: RedisServer) -> None:
    """Acks come in any order; and what is not the user's own is passed."""
    async with log_rig(redis_server.url) as on:
        line = await on.comes(ack=True)
        await on.told("m-1", "m-2", "m-3")
        line.say('{"type":"ack","ids":["m-1","m-3"]}')
        await on.settled()
        assert line.connection.cursor(on.app.tail.offered) == await on.at("m-2") - 1
        line.say('{"type":"ack","ids":["m-2"]}')
        await on.settled()
        await on.told("others", target={"vip": ("3",)})
        await stands_at(on, "m-3")
        assert line.connection.cursor(on.app.tail.offered) == await on.at("others")


@pytest.mark.usefixtures("no_rounds")
@pytest.mark.gen_test
async def test_it_moves_after_the_exposure_was_accepted_and_not_before(redis_server: RedisServer) -> None:
    """Killed in between, the user gets it again, and it is exposed then."""
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.told("m-1")
        exposure = hold(on.app.stores.commands, "exposure_add")
        line.connection.ping(0.0)
        line.pong()
        await exposure.reached.wait()
        line.leave()
        await on.barrier()
        cursor = await on.cursor()
        assert cursor is not None
        assert cursor < await on.at("m-1")
        silence(on.app.stores.commands)
        exposure.drop()
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await line.got("m-1")
        await on.confirms(line)
        assert await on.exposed() == [("m-1", "alice", "log")]


@pytest.mark.usefixtures("no_rounds")
@pytest.mark.gen_test
async def test_a_pod_that_is_killed_before_it_was_written_brings_it_again(redis_server: RedisServer) -> None:
    """At least once; what was written before does not come again."""
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.told("m-1")
        await on.confirms(line)
        await on.app.cursors.drained()
        await on.told("m-2")
        await on.confirms(line)
        silence(on.app.stores.commands)
    async with log_rig(redis_server.url) as on:
        await (await on.comes()).got("m-2")


@pytest.mark.usefixtures("no_rounds")
@pytest.mark.gen_test
async def test_the_furthest_of_a_users_connections_counts(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        far, near = await on.comes(), await on.comes()
        await on.told("m-1", "m-2")
        await on.confirms(far)
        far.leave()
        await stands_at(on, "m-2")
        near.leave()
        await on.app.cursors.drained()
        await stands_at(on, "m-2")


@pytest.mark.usefixtures("no_rounds")
@pytest.mark.gen_test
async def test_what_is_not_written_yet_counts_for_who_connects_here(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.told("m-1")
        await on.confirms(line)
        assert (await on.comes()).wire.ids == []


@pytest.mark.usefixtures("no_rounds")
@pytest.mark.gen_test
async def test_a_connect_that_overlaps_a_write_starts_at_the_later(redis_server: RedisServer) -> None:
    """It was read before the write, and its answer comes after that of the write."""
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.told("m-1")
        await on.confirms(line)
        read = hold(on.app.stores.commands, "cursor_start", answers=True)
        coming = asyncio.ensure_future(on.come())
        await read.reached.wait()
        line.leave()
        await stands_at(on, "m-1")
        await eventually(lambda: on.app.cursors.waiting == 0)
        read.open()
        back = await coming
        await back.live()
        assert back.wire.ids == []


@pytest.mark.gen_test
async def test_of_who_gets_nothing_for_long_it_moves_before_the_log_is_trimmed_beyond_it(
    redis_server: RedisServer,
) -> None:
    async with log_rig(redis_server.url, log={"max_length": 100}) as on:
        await on.told("before")
        line = await on.comes()
        start = await on.cursor()
        visit = on.app.sessions._visit
        await on.told("m-0")
        visit(line.connection, 0.0)
        assert on.app.cursors.waiting == 0
        await on.told(*(f"m-{number}" for number in range(1, 80)), target={"vip": ("3",)})
        await on.confirms(line)
        on.app.cursors._later.clear()
        line.connection.cursor_at = start or 0
        visit(line.connection, 0.0)
        assert on.app.cursors.waiting == 1
        await on.app.cursors.drained()
        assert await on.cursor() == await on.at("m-79")


# -- what fails


@pytest.mark.usefixtures("rounds")
@pytest.mark.gen_test
async def test_a_write_that_fails_is_repeated(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.told("m-1")
        fault = refuse(on.app.stores.commands, "cursor_move", times=3)
        await on.confirms(line)
        await stands_at(on, "m-1")
        assert fault.count == 3


@pytest.mark.usefixtures("no_rounds")
@pytest.mark.gen_test
async def test_a_user_whose_node_is_away_holds_up_nobody_else(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursors, "MAX_BATCH", 2)
    async with log_rig(redis_server.url) as on:
        refuse(
            on.app.stores.commands,
            "cursor_move",
            error=StoreRefusedError("cluster_down", "a fault of the test"),
            only=lambda arguments: "{away" in str(arguments[0]),
        )
        lines = [await on.comes(user) for user in ("away-1", "away-2", "away-3", "alice", "bob")]
        await on.told("m-1")
        await on.confirms(*lines)
        for line in lines:
            line.leave()
        await stands_at(on, "m-1")
        await stands_at(on, "m-1", "bob")
        await eventually(lambda: on.app.cursors.waiting == 3)


@measured_again
@pytest.mark.gen_test(timeout=60)
async def test_many_of_them_hold_the_loop_shortly(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        first = position_of(b"1700000000000-0")
        for number in range(20_000):
            on.app.cursors._later[f"u-{number}"] = _Moved(first + number, make=True)
        with short_callbacks():
            await asyncio.wait_for(on.app.cursors.drained(), 30)
        assert await on.cursor("u-19999") == first + 19_999
