"""The story of a connection: connect, catch up, live, disconnect."""

from __future__ import annotations

import asyncio
import time

import pytest
from structlog.testing import capture_logs

from pushserver import __version__
from pushserver.core.close_codes import CloseCode
from pushserver.core.errors import NotAuthenticatedError, StoreUnavailableError
from pushserver.delivery.connection import Connection, State
from pushserver.delivery.cursors import Cursors
from pushserver.delivery.session import Verified
from tests.delivery.rig import Rig, rig
from tests.delivery.wire import Wire, message
from tests.engines.redis_server import RedisServer
from tests.gate import hold, refuse
from tests.pod import eventually
from tests.texts import to_users

NOTHING = {"expired": 0, "evicted": 0, "parked": 0}


# -- connect


@pytest.mark.gen_test
async def test_welcome_comes_first_then_what_waits_then_live(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1", "m-2")
        line = await on.live(categories={"vip": ("3",)}, ttl_s=600)
        welcome, *others = line.wire.texts
        assert [frame["type"] for frame in others] == ["message", "message", "live"]
        assert {**welcome, "expires": 0} == {
            "type": "welcome",
            "connection": line.connection.id,
            "pod": "pod-1",
            "user": "alice",
            "categories": {"vip": ["3"]},
            "expires": 0,
            "version": __version__,
        }
        assert abs(welcome["expires"] - on.app.stores.clock.now_s() - 600) < 5
        assert line.wire.of("live") == [
            {
                "type": "live",
                "delivered": 2,
                "missed": NOTHING,
                "gap": False,
                "retry": {"min_ms": 500, "max_ms": 20_000},
            }
        ]


@pytest.mark.gen_test
async def test_a_connection_is_registered_and_welcomed_in_the_turn_that_opens_it(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        line = on.open(categories={"vip": ("3",)})
        assert on.app.manager.of("alice") == (line.connection,)
        assert on.app.manager.matching({"vip": ("3",)}) == [line.connection]
        assert [frame["type"] for frame in line.wire.texts] == ["welcome"]
        assert len(on.app.sessions.wheel) == 1


class _Broken(Wire):
    """No transport fails like that by what a client does."""

    def write(self, data: bytes) -> None:
        raise RuntimeError("ours")


@pytest.mark.gen_test
async def test_a_connection_that_cannot_be_welcomed_is_not_registered(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        with pytest.raises(RuntimeError, match="ours"):
            on.open(wire=_Broken())
        assert (len(on.app.manager), len(on.app.sessions.wheel)) == (0, 0)
        await on.flushed()
        assert await on.app.stores.presence.pods_of("alice") == {}


@pytest.mark.gen_test
async def test_an_idle_connect_costs_one_round_trip_after_the_announcement(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        (await on.live()).leave()  # the engine learns the scripts
        await on.flushed()
        await on.app.presence.announce("alice")
        trips = on.counted("redis_round_trips_total")
        await on.live()
        assert on.counted("redis_round_trips_total") == trips + 1


@pytest.mark.gen_test
async def test_ids_of_connections_differ(redis_server: RedisServer) -> None:
    async with rig(redis_server.url, limits={"connections_per_user": 100}) as on:
        assert len({on.open().connection.id for _ in range(50)}) == 50


@pytest.mark.gen_test
async def test_live_comes_once_however_often_the_inbox_is_looked_at(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        for number in range(3):
            await on.send("alice", f"m-{number}")
            on.app.sessions.look_again(line.connection)
            await eventually(lambda: len(line.wire.ids) == number + 1)  # noqa: B023 - in its turn
            await line.live()
        assert [frame["type"] for frame in line.wire.texts] == ["welcome", "live", *["message"] * 3]


@pytest.mark.gen_test
async def test_every_connection_of_a_user_gets_what_waits(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1")
        first, second = await on.live(), await on.live()
        assert first.wire.ids == second.wire.ids == ["m-1"]
        first.pong()
        second.pong()
        await on.settled()
        third = await on.live()
        assert third.wire.ids == []


@pytest.mark.gen_test
async def test_whoever_goes_before_presence_was_written_is_not_served(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1")
        write = hold(on.app.stores.commands, "presence_set", answers=True)
        line = on.open()
        await write.reached.wait()
        line.end()
        write.open()
        await on.flushed()
        await eventually(lambda: len(on.app.tasks) == 0)
        assert [frame["type"] for frame in line.wire.texts] == ["welcome"]
        assert await on.present() is None


@pytest.mark.gen_test
async def test_a_connection_that_can_be_fed_no_more_is_cut_so_that_it_comes_back(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(redis_server.url) as on:

        async def breaks(*_: object) -> None:
            raise LookupError("what went wrong")

        monkeypatch.setattr(on.app.stores.inbox, "read", breaks)
        line = await on.live()
        with capture_logs() as lines:
            on.app.sessions.look_again(line.connection)
            await eventually(lambda: line.wire.aborted)
            await eventually(lambda: lines)
        assert [(one["event"], one["task"]) for one in lines] == [("task.failed", "serve connection")]


# -- suspicion


async def suspect(on: Rig) -> None:
    """The user's last connection could not digest something."""
    await on.app.stores.inbox.blame("alice", None)


@pytest.mark.gen_test
async def test_a_suspect_user_is_fed_one_message_at_a_time_until_all_were_confirmed(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1", "m-2")
        await suspect(on)
        line = on.open()
        await line.got("m-1")
        line.pong()
        await line.got("m-1", "m-2")
        await line.live()
        assert line.connection.suspect
        assert await on.app.stores.commands.call("EXISTS", "ps:blame:{alice}") == 1
        line.pong()
        await eventually(lambda: not line.connection.suspect)
        await eventually(lambda: len(on.app.tasks) == 0)
        assert await on.app.stores.commands.call("EXISTS", "ps:blame:{alice}") == 0


@pytest.mark.gen_test
async def test_a_message_that_comes_while_a_suspicion_lasts_waits_its_turn_and_ends_it_not(
    redis_server: RedisServer,
) -> None:
    """Two wait on the same confirm: the one who would absolve, and the one who feeds."""
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1")
        await suspect(on)
        line = await on.live()
        await on.send("alice", "m-2")
        on.app.sessions.look_again(line.connection)
        await on.barrier()
        assert line.wire.ids == ["m-1"]
        line.pong()
        await line.got("m-1", "m-2")
        line.pong()
        await eventually(lambda: not line.connection.suspect)
        await eventually(lambda: len(on.app.tasks) == 0)
        assert await on.app.stores.commands.call("EXISTS", "ps:blame:{alice}") == 0


@pytest.mark.gen_test
async def test_a_suspect_connection_that_closes_absolves_nobody(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1")
        await suspect(on)
        line = await on.live()
        line.leave()
        await eventually(lambda: len(on.app.tasks) == 0)
        assert await on.app.stores.commands.call("EXISTS", "ps:blame:{alice}") == 1


# -- replaced


@pytest.mark.gen_test
async def test_at_the_limit_of_a_user_the_oldest_connection_goes_with_4409(redis_server: RedisServer) -> None:
    async with rig(redis_server.url, limits={"connections_per_user": 2}) as on:
        first, second = await on.live(), await on.live()
        bob = await on.live("bob")
        third = await on.live()
        assert first.wire.closed_with == (CloseCode.REPLACED, "replaced by a newer connection")
        assert on.app.manager.of("alice") == (second.connection, third.connection)
        assert second.wire.closed_with is third.wire.closed_with is bob.wire.closed_with is None
        assert on.counted("closes_total", code="4409") == 1
        assert await on.present() == 1
        first.end(1000)
        assert on.app.sessions.leaving == set()
        assert on.counted("closes_total", code="1000") == 0


@pytest.mark.gen_test
async def test_a_storm_of_one_user_leaves_just_the_newest(redis_server: RedisServer) -> None:
    async with rig(redis_server.url, limits={"connections_per_user": 3}) as on:
        lines = [on.open() for _ in range(40)]
        await eventually(lambda: all(line.connection.state is State.LIVE for line in lines[-3:]))
        assert on.app.manager.of("alice") == tuple(line.connection for line in lines[-3:])
        closed = [line.wire.closed_with for line in lines[:-3]]
        assert {one and one[0] for one in closed} == {CloseCode.REPLACED}
        await on.flushed()
        assert await on.present() == 1
        await eventually(lambda: len(on.app.tasks) == 0)


# -- refresh


@pytest.fixture
def refreshed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What the next refreshes come to: an error to raise, or what was verified."""
    outcomes: list[object] = []

    async def refresh(token: str, user: str) -> Verified:
        assert (token, user) == ("new", "alice")
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        assert isinstance(outcome, Verified)
        return outcome

    outcomes.append(refresh)
    return outcomes


def refresh_by(on: Rig, outcomes: list[object], *results: object) -> None:
    """Let refreshes of this pod come to `results`, in order."""
    on.app.sessions._refresh = outcomes.pop(0)  # type: ignore[assignment]
    outcomes.extend(results)


REFRESH = '{"type":"refresh","token":"new"}'


@pytest.mark.gen_test
async def test_a_refresh_brings_a_new_expiry_and_new_categories_and_is_welcomed(
    redis_server: RedisServer, refreshed: list[object]
) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live(categories={"vip": ("3",)}, ttl_s=5)
        expires = on.app.stores.clock.now_s() + 5000
        refresh_by(on, refreshed, Verified("alice", expires + 10, expires, {"vip": ("4",)}))
        line.say(REFRESH)
        await eventually(lambda: len(line.wire.of("welcome")) == 2)
        again = line.wire.of("welcome")[1]
        assert (again["categories"], again["expires"]) == ({"vip": ["4"]}, int(expires))
        assert again["connection"] == line.connection.id
        assert line.connection.expires_at == expires + 10
        assert on.app.manager.matching({"vip": ("4",)}) == [line.connection]
        assert on.app.manager.matching({"vip": ("3",)}) == []
        assert len(on.app.sessions.wheel) == 1


@pytest.mark.gen_test
async def test_a_refresh_that_is_not_believed_ends_it_with_4401(
    redis_server: RedisServer, refreshed: list[object]
) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        refresh_by(on, refreshed, NotAuthenticatedError("token is for another user"))
        line.say(REFRESH)
        await eventually(lambda: line.wire.closed_with)
        assert line.wire.closed_with == (CloseCode.NOT_AUTHENTICATED, "token is for another user")


@pytest.mark.gen_test
async def test_a_refresh_while_redis_is_away_may_be_tried_again(
    redis_server: RedisServer, refreshed: list[object]
) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        expires = line.connection.expires_at
        refresh_by(on, refreshed, StoreUnavailableError("away", ""))
        line.say(REFRESH)
        await eventually(lambda: line.wire.of("error"))
        assert line.wire.of("error")[0]["code"] == "unavailable"
        assert line.wire.closed_with is None
        assert line.connection.expires_at == expires


@pytest.mark.gen_test
async def test_a_connection_has_one_refresh_under_way_however_many_it_asks_for(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        line, verified = await on.live(), asyncio.Event()
        asked: list[str] = []

        async def refresh(token: str, user: str) -> Verified:
            asked.append(token)
            await verified.wait()
            return Verified(user, 2e9, 2e9, {})

        on.app.sessions._refresh = refresh
        for _ in range(30):
            line.say(REFRESH)
        await eventually(lambda: len(line.wire.of("error")) == 29)
        assert {frame["code"] for frame in line.wire.of("error")} == {"unavailable"}
        assert asked == ["new"]
        verified.set()
        await eventually(lambda: len(line.wire.of("welcome")) == 2)
        line.say(REFRESH)
        await eventually(lambda: len(line.wire.of("welcome")) == 3)
        assert on.app.sessions._refreshing == set()


@pytest.mark.gen_test
async def test_a_refresh_whose_connection_is_gone_registers_nobody(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        line, verified = await on.live(), asyncio.Event()

        async def refresh(token: str, user: str) -> Verified:
            await verified.wait()
            return Verified(user, 2e9, 2e9, {"vip": ("4",)})

        on.app.sessions._refresh = refresh
        line.say(REFRESH)
        line.leave()
        verified.set()
        await eventually(lambda: len(on.app.tasks) == 0)
        assert on.app.manager.category_count == 0
        assert len(on.app.sessions.wheel) == 0


# -- what is due


@pytest.mark.gen_test
async def test_a_planned_ping_goes_out_when_it_is_due_unless_another_is_in_flight(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        one, remind = line.connection, on.app.sessions._reminded

        def push(number: int) -> float:
            assert one.push_live_only(message(f"m-{number}"), 1000, 5.0)
            return one.ping_by

        due = push(1)
        remind(one, due - 0.1)
        assert (line.wire.pings, len(on.app.sessions.reminders)) == ([], 1)
        remind(one, due)
        remind(one, due)
        assert line.wire.pings == [b"1"]
        due = push(2)
        remind(one, due)
        assert line.wire.pings == [b"1"]
        assert one.pong(b"1", due) is not None
        assert line.wire.pings == [b"1", b"2"]
        due, others = push(3), len(on.app.sessions.reminders)
        line.leave()
        remind(one, due - 0.1)
        assert len(on.app.sessions.reminders) == others, "nobody is kept who has left"


@pytest.mark.gen_test
async def test_a_token_that_ends_ends_its_connection_with_4401_on_time(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        on.app.sessions.wheel.start()
        began = time.monotonic()
        line, other = await on.live(ttl_s=1), await on.live("bob")
        await eventually(lambda: line.wire.closed_with)
        assert line.wire.closed_with == (CloseCode.NOT_AUTHENTICATED, "token expired")
        assert time.monotonic() - began >= 1
        assert other.wire.closed_with is None
        assert not on.app.manager.has("alice")


@pytest.mark.gen_test
async def test_a_silent_connection_is_pinged_and_stays_as_long_as_it_answers(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url, delivery={"ping_interval_s": 0.1, "ping_timeout_s": 30}) as on:
        on.app.sessions.wheel.start()
        line = await on.live()
        for number in (1, 2, 3):
            await eventually(lambda: len(line.wire.pings) == number)  # noqa: B023 - in its turn
            line.pong()
        assert line.wire.closed_with is None


@pytest.mark.gen_test
async def test_a_connection_that_nothing_comes_from_after_a_ping_is_cut_with_4408(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url, delivery={"ping_interval_s": 0.3, "ping_timeout_s": 0.3}) as on:
        on.app.sessions.wheel.start()
        line = await on.live()
        await eventually(lambda: line.wire.closed_with)
        assert line.wire.pings == [b"1"]
        assert line.wire.closed_with == (CloseCode.NO_PROGRESS, "no pong")
        assert on.counted("no_progress_total", reason="pong") == 1


@pytest.mark.gen_test
async def test_who_is_cut_for_no_progress_is_absent_at_once_not_when_the_socket_is_closed(
    redis_server: RedisServer,
) -> None:
    """Of a host that vanished, the goodbye takes two seconds more."""
    delivery = {"ping_interval_s": 0.5, "ping_timeout_s": 0.3}
    async with rig(redis_server.url, delivery=delivery) as on:
        on.app.sessions.wheel.start()
        line = await on.live()
        await eventually(lambda: line.wire.closed_with)
        await on.flushed()
        assert await on.present() is None
        assert on.app.sessions.leaving == {line.connection}
        line.end(1006)
        assert on.app.sessions.leaving == set()
        assert on.counted("closes_total", code="4408") == 1


@pytest.mark.gen_test
async def test_who_acks_nothing_in_time_is_cut_with_4408(redis_server: RedisServer) -> None:
    async with rig(redis_server.url, delivery={"ack_timeout_s": 1, "ping_interval_s": 0.4}) as on:
        on.app.sessions.wheel.start()
        await on.send("alice", "m-1")
        line, idle = await on.live(ack=True), await on.live("bob", ack=True)
        await eventually(lambda: line.wire.closed_with)
        assert line.wire.closed_with == (CloseCode.NO_PROGRESS, "no ack")
        assert idle.wire.closed_with is None
        assert await on.inbox() == ["m-1"]


# -- disconnect


@pytest.mark.gen_test
async def test_presence_goes_with_the_last_connection(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        first, second = await on.live(), await on.live()
        first.leave()
        await on.flushed()
        assert await on.present() == 1
        second.end()
        await on.flushed()
        assert await on.present() is None
        assert await on.indexed() == set()


@pytest.mark.gen_test
async def test_an_end_is_counted_once_whoever_tells_it(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        on.app.sessions.end(line.connection, CloseCode.KICKED, "by the back end")
        on.app.sessions.end(line.connection, CloseCode.RATE, "later")
        line.end(4403)
        line.end(None)
        assert line.wire.closed_with == (CloseCode.KICKED, "by the back end")
        assert on.counted("closes_total", code="4403") == 1
        assert on.counted("closes_total", code="4429") == 0
        assert len(on.app.manager) == len(on.app.sessions.wheel) == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["left", "settling", "write_down"])
async def test_who_leaves_is_gone_also_when_a_step_of_it_breaks(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """No peer causes that, and all the less may it leave somebody here who is not."""

    def broken(*_: object) -> None:
        raise ValueError("an error of the test")

    async with rig(redis_server.url) as on:
        line = await on.live()
        if step == "settling":
            monkeypatch.setattr(Connection, step, property(broken))
        else:
            monkeypatch.setattr(Cursors if step == "left" else Connection, step, broken)
        with pytest.raises(ValueError, match="of the test"):
            line.end(1000)
        assert not line.connection.is_open()
        assert len(on.app.manager) == len(on.app.sessions.wheel) == len(on.app.sessions.leaving) == 0
        await on.flushed()
        assert await on.present() is None


@pytest.mark.gen_test
@pytest.mark.parametrize("code, label", [(1000, "1000"), (None, "none"), (4999, "other"), (1006, "other")])
async def test_ends_are_counted_by_codes_that_no_client_can_make_up(
    redis_server: RedisServer, code: int | None, label: str
) -> None:
    async with rig(redis_server.url) as on:
        (await on.live()).end(code)
        assert on.counted("closes_total", code=label) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["presence_set", "inbox_read", "content_read", "inbox_remove", "DEL"])
@pytest.mark.parametrize("how", ["hangs", "fails"])
async def test_no_task_outlives_its_connection_wherever_it_was(
    redis_server: RedisServer, step: str, how: str
) -> None:
    """Serving, looking, settling, absolving: held or failing when the connection ends."""
    async with rig(redis_server.url) as on:
        commands = on.app.stores.commands
        await suspect(on)
        await on.send("alice", "m-1")
        await commands.call("RPUSH", "ps:inbox:{alice}", "gone")
        gate = hold(commands, step)
        if how == "fails":
            gate.open()
        fault = refuse(commands, step) if how == "fails" else None
        line = on.open()

        def reached() -> bool:
            if line.wire.pings:
                line.pong()
            return bool(fault.count) if fault else gate.reached.is_set()

        await eventually(reached)
        line.leave()
        if fault:
            fault.end()
        gate.open()
        await on.settled()
        await on.flushed()
        await eventually(lambda: len(on.app.tasks) == 0)
        assert await on.present() is None
        assert len(on.app.manager) == len(on.app.sessions.wheel) == 0


@pytest.mark.gen_test(timeout=30)
async def test_after_500_connects_and_disconnects_of_one_user_presence_is_exact(
    redis_server: RedisServer,
) -> None:
    """Ten clients at once, that leave at any moment of their connect; the limit is now and then reached."""
    async with rig(redis_server.url, limits={"connections_per_user": 6}) as on:
        await on.send("alice", *[f"m-{number}" for number in range(20)])

        async def client(number: int) -> None:
            for turn in range(50):
                line = on.open()
                if (turn + number) % 3 == 0:
                    await eventually(lambda: line.connection.state is not State.CATCHING_UP)  # noqa: B023
                elif (turn + number) % 3 == 1:
                    await on.app.stores.commands.call("PING")
                if turn % 2:
                    line.leave()
                line.end()

        await asyncio.gather(*map(client, range(10)))
        await on.flushed()
        assert await on.present() is None
        assert await on.indexed() == set()
        stays = await on.live()
        assert await on.present() == 1
        assert await on.indexed() == {"alice"}
        await eventually(lambda: len(on.app.tasks) == 0)
        assert on.app.manager.of("alice") == (stays.connection,)
        assert on.app.presence._waiters == on.app.presence._announced == {}
        assert on.app.sessions.leaving == set()


@pytest.mark.gen_test
async def test_while_one_connection_stays_flapping_ones_never_make_the_user_absent(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        await on.live()
        removals = hold(on.app.stores.commands, "presence_remove")
        for _ in range(100):
            line = on.open()
            await asyncio.sleep(0)
            line.leave()
        await on.flushed()
        await on.barrier()
        assert removals.count == 0
        assert await on.present() == 1


@pytest.mark.gen_test
async def test_a_wire_that_is_stuck_delays_nobody_else(redis_server: RedisServer) -> None:
    async with rig(redis_server.url, delivery={"window": 4}) as on:
        ids = [f"m-{number}" for number in range(20)]
        for message_id in ids:
            await on.app.publisher.publish(to_users(["alice", "bob"], "hello", message_id))
        stuck = Wire()
        stuck.stuck = True
        slow = on.open("alice", wire=stuck)
        bob = on.open("bob")

        def answered() -> bool:
            if bob.wire.pings:
                bob.pong()
            return bob.wire.ids == ids

        await eventually(answered)
        assert slow.wire.ids == ids[:4]
        assert slow.connection.state is State.CATCHING_UP
        slow.end()
