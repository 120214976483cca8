"""Catching up with the log: what came meanwhile, at the client's own pace, and whether any is missing."""

from __future__ import annotations

import asyncio

import pytest

from pushserver.core.close_codes import CloseCode
from tests.callbacks import short_callbacks
from tests.cpu_time import measured_again
from tests.delivery.log_rig import LogRig, log_rig
from tests.delivery.rig import Line
from tests.engines.redis_server import RedisServer
from tests.gate import hold
from tests.pod import eventually
from tests.texts import store_text


def gap(line: Line) -> bool:
    """What the `live` frame says."""
    (live,) = line.wire.of("live")
    return bool(live["gap"])


async def away(on: LogRig, user: str = "alice", **options: object) -> None:
    """The user was here once, and has left."""
    (await on.comes(user, **options)).leave()
    await on.flushed()


# -- what waits


@pytest.mark.gen_test
async def test_who_was_away_gets_it_in_log_order_behind_the_inbox(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        await away(on)
        await on.told("m-1", "m-2")
        await on.send("alice", "inbox-1")
        await on.told("m-3", target={"vip": ("3",)})
        await on.told("m-4", target={"vip": ("4",)})
        line = await on.comes(categories={"vip": ("3",)})
        assert line.wire.ids == ["inbox-1", "m-1", "m-2", "m-3"]
        assert line.wire.of("live")[0]["delivered"] == 4
        assert not gap(line)
        await on.confirms(line)
        assert await on.exposed() == [
            ("inbox-1", "alice", "offline"),
            *((message_id, "alice", "log") for message_id in ("m-1", "m-2", "m-3")),
        ]


@pytest.mark.gen_test
async def test_whom_a_category_means_of_those_away_is_settled_when_they_come_back(
    redis_server: RedisServer,
) -> None:
    async with log_rig(redis_server.url) as on:
        await away(on, "alice", categories={"vip": ("3",)})
        await away(on, "bob", categories={"vip": ("1",)})
        await on.told("m-1", target={"vip": ("3",)})
        alice = await on.comes("alice", categories={"vip": ("1",)})
        bob = await on.comes("bob", categories={"vip": ("3",)})
        assert (alice.wire.ids, bob.wire.ids) == ([], ["m-1"])


@pytest.mark.gen_test
async def test_more_than_a_page_waits_for_confirms(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url, delivery={"window": 50}) as on:
        await away(on)
        ids = [f"m-{number:03d}" for number in range(300)]
        await on.told(*ids)
        line = await on.come()
        await eventually(lambda: len(line.wire.ids) == 50)
        await on.told("late")
        await on.barrier()
        assert (len(line.wire.ids), line.connection.ledger.unconfirmed) == (50, 50)
        await eventually(line.live_after_pong)
        assert line.wire.ids == [*ids, "late"]


@pytest.mark.gen_test
async def test_what_is_gone_cannot_be_read_or_was_recalled_is_passed_over(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url, publish={"inline_bytes": 0}) as on:
        await away(on)
        stores = on.app.stores
        await on.told("m-1", "recalled", "gone")
        await store_text(stores.contents, "broken", "{", 60)
        await stores.log.append("broken", {}, "", 0)
        await stores.commands.call("DEL", "ps:msg:gone")
        await on.publisher.recall("recalled")
        await on.told("m-2")
        line = await on.comes()
        await line.got("m-1", "m-2")
        await on.confirms(line)
        line.leave()
        assert (await on.comes()).wire.ids == []
        assert on.counted("expired_total") == 0


@pytest.mark.gen_test
async def test_who_leaves_while_it_waits_for_room_is_fed_no_more(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url, delivery={"window": 2}) as on:
        await away(on)
        await on.told("m-1", "m-2", "m-3")
        line = await on.come()
        await line.got("m-1", "m-2")
        line.end()
        await eventually(lambda: len(on.app.tasks) == 2)
        back = await on.come()
        await back.got("m-1", "m-2")


@pytest.mark.gen_test
async def test_who_leaves_while_a_content_is_read_moves_nothing(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url, publish={"inline_bytes": 0}) as on:
        await away(on)
        await on.told("m-1")
        content = hold(on.app.stores.commands, "content_read", answers=True)
        line = await on.come()
        await content.reached.wait()
        line.end()
        content.open()
        await eventually(lambda: len(on.app.tasks) == 2)
        assert line.connection.ledger.log_at < await on.at("m-1")
        await (await on.come()).got("m-1")


# -- whose it is


@pytest.mark.gen_test
async def test_who_is_new_begins_where_this_pod_is(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        await on.told("m-1")
        line = await on.comes()
        assert await on.cursor() == on.app.tail.offered
        await on.told("m-2")
        await line.got("m-2")
        assert not gap(line)


@pytest.mark.gen_test
async def test_the_first_device_settles_it_for_those_that_connect_later(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        await away(on)
        await on.told("m-1")
        first, second = await on.comes(), await on.comes()
        await on.confirms(first)
        await first.got("m-1")
        await second.got("m-1")
        third = await on.comes()
        assert third.wire.ids == []
        await on.confirms(second)
        assert (await on.comes()).wire.ids == []


@pytest.mark.gen_test
async def test_new_categories_bring_nothing_that_came_before_them(redis_server: RedisServer) -> None:
    """The connection was live, and it was not meant."""
    async with log_rig(redis_server.url) as on:
        line = await on.comes(categories={"vip": ("3",)})
        await on.told("m-1", target={"vip": ("4",)})
        on.app.manager.change_categories(line.connection, {"vip": ("4",)})
        on.app.sessions.look_again(line.connection)
        await line.live()
        await on.told("m-2", target={"vip": ("4",)})
        await on.told("m-3", target={"vip": ("3",)})
        await line.got("m-2")


@pytest.mark.gen_test
async def test_a_pod_that_is_behind_the_cursor_pushes_nothing_again(redis_server: RedisServer) -> None:
    """Another pod has seen more of the log, and the user confirmed it there."""
    async with log_rig(redis_server.url, follow=False) as on:
        await on.app.log_follower.load()
        for number in range(3):
            await on.tell(f"m-{number}")
        line = on.open(log_at=await on.at("m-1"))
        await line.live()
        on.app.tasks.spawn(on.app.log_follower.run(), "log")
        await on.told("m-3")
        await line.got("m-2", "m-3")


# -- the gap


@pytest.mark.gen_test
async def test_nothing_is_missing_in_an_empty_log_and_of_who_is_new(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        assert not gap(await on.comes("early"))
        await on.told("m-1")
        assert not gap(await on.comes("late"))
        assert not gap(await on.comes("early"))
        assert on.counted("log_gaps_total") == 0


@pytest.mark.parametrize("trimmed", [0, 1])
@pytest.mark.gen_test
async def test_a_cursor_older_than_the_tail_is_a_gap(redis_server: RedisServer, trimmed: int) -> None:
    """Just one message more than the tail holds came since."""
    async with log_rig(redis_server.url, log={"max_length": 100}) as on:
        await away(on)
        await on.told("seen")
        line = await on.comes()
        await on.confirms(line)
        line.leave()
        await eventually(lambda: on.app.cursors.waiting == 0)
        await on.told(*(f"m-{number}" for number in range(100 + trimmed)))
        back = await on.comes()
        assert gap(back) == bool(trimmed)
        assert (len(back.wire.ids), back.wire.ids[0]) == (100, f"m-{trimmed}")
        assert on.counted("log_gaps_total") == trimmed


@pytest.mark.gen_test
async def test_a_cursor_older_than_the_time_that_messages_are_kept_is_a_gap(
    redis_server: RedisServer,
) -> None:
    async with log_rig(redis_server.url, log={"retention_s": 60}) as on:
        now_ms = on.app.stores.clock.now_ms()
        await on.app.stores.cursors.start("alice", (now_ms - 120_000) << 64)
        await on.app.stores.commands.call("XADD", "ps:log", now_ms - 61_000, "id", "m-1", "to", "{}")
        await on.told("m-2")
        line = await on.comes()
        assert (gap(line), line.wire.ids) == (True, ["m-2"])


@pytest.mark.gen_test
async def test_who_falls_behind_the_tail_while_connected_is_closed_and_told_at_the_next_connect(
    redis_server: RedisServer,
) -> None:
    async with log_rig(redis_server.url, log={"max_length": 100}, delivery={"window": 2}) as on:
        slow = await on.comes()
        await on.told(*(f"m-{number:03d}" for number in range(200)))
        await slow.got("m-000", "m-001")
        for _ in range(80):
            slow.pong()
            await on.barrier()
            if slow.wire.closed_with:
                break
        assert slow.wire.closed_with == (CloseCode.NO_PROGRESS, "too far behind")
        # Fed up to the page it was at, in order and without a hole that nobody is told of.
        assert slow.wire.ids == [f"m-{number:03d}" for number in range(len(slow.wire.ids))]
        slow.end(CloseCode.NO_PROGRESS)
        await on.settled()
        await eventually(lambda: on.app.cursors.waiting == 0)
        back = await on.come()
        await eventually(lambda: back.wire.pings)
        await eventually(back.live_after_pong)
        assert gap(back)
        assert back.wire.ids == [f"m-{number:03d}" for number in range(100, 200)]


@pytest.mark.gen_test
async def test_what_was_trimmed_while_a_connection_was_live_is_no_gap(redis_server: RedisServer) -> None:
    """It was offered all of it, and none of it was for this user."""
    async with log_rig(redis_server.url, log={"max_length": 100}) as on:
        line = await on.comes()
        await on.told(*(f"m-{number}" for number in range(150)), target={"vip": ("3",)})
        on.app.sessions.look_again(line.connection)
        await line.live()
        assert line.wire.closed_with is None
        line.leave()
        await eventually(lambda: on.app.cursors.waiting == 0)
        assert not gap(await on.comes())


# -- what it costs


@measured_again
@pytest.mark.gen_test(timeout=60)
async def test_a_long_log_of_others_holds_nobody_up(redis_server: RedisServer) -> None:
    """20 000 messages for another hall: looked through in steps, and none of them pushed."""
    async with log_rig(redis_server.url, follow=False) as on:
        commands = on.app.stores.commands
        for start in range(0, 20_000, 5000):
            adds = (
                commands.call("XADD", "ps:log", "*", "id", f"m-{number}", "to", '{"vip":["3"],"hall":["b"]}')
                for number in range(start, start + 5000)
            )
            await asyncio.gather(*adds)
        with short_callbacks():
            await on.follow()
        assert len(on.app.tail) == 20_000
        await on.tell("last")
        with short_callbacks():
            line = on.open(categories={"vip": ("3",), "hall": ("a",)})
            await line.got("last")
            await line.live()


@pytest.mark.gen_test
async def test_a_message_that_a_client_chokes_on_is_parked_and_passed(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.told("poison")
        with redis_server.client() as redis:
            for blame in ({"*": "1"}, {"*": "1", "poison": "1"}, {}):
                await line.got("poison")
                line.leave(CloseCode.INVALID_DATA)
                await eventually(lambda: redis.hgetall("ps:blame:{alice}") == blame)  # noqa: B023 - awaited here
                if blame:
                    line = await on.comes()
        place = await on.at("poison")
        await eventually(lambda: _stands_at(on, place))
        line = await on.comes()
        assert line.wire.ids == []
        assert line.wire.of("live")[0]["missed"]["parked"] == 1
        await on.told("m-2")
        await line.got("m-2")
        assert await on.app.users.parked("alice") == ["poison"]
        assert await on.app.users.put_back("alice", "poison")
        assert await on.inbox() == ["poison"]


async def _stands_at(on: LogRig, place: int) -> bool:
    return await on.cursor() == place
