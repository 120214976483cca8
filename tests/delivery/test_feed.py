"""What this pod's feed says, and what each connection makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from pushserver.core.close_codes import CloseCode
from pushserver.core.errors import StoreError
from pushserver.delivery import feed as feed_module
from pushserver.delivery.connection import State
from pushserver.delivery.slices import SLICE
from pushserver.stores.feed_entry import FeedEntry, Hint, Hints, Kick, Push, Recategorize
from tests.delivery.rig import Line, Rig, rig
from tests.delivery.wire import Wire
from tests.engines.redis_server import RedisServer
from tests.gate import Gate, hold, refuse
from tests.pod import eventually
from tests.texts import message_text, to_users

FEED = "ps:feed:{pod-1}"
FAR = 2_000_000_000_000
"""A moment that is far away, in milliseconds since 1970."""


@asynccontextmanager
async def followed(server: RedisServer, **sections: Any) -> AsyncIterator[Rig]:
    """A pod that follows its feed."""
    async with rig(server.url, **sections) as on:
        on.app.tasks.spawn(on.app.feed.run(), "feed")
        yield on


def text(message_id: str, content: object = "hello") -> bytes:
    return message_text(message_id, 1_700_000_000_000, content).encode()


def hints(*told: tuple[int, str], user: str = "alice", warm: bool = True) -> Hints:
    """Hints for one user, with their texts."""
    texts = {message_id: (text(message_id), FAR) for _, message_id in told} if warm else {}
    return Hints([Hint(user, seq, message_id) for seq, message_id in told], texts)


async def take(on: Rig, *entries: FeedEntry) -> None:
    """What the feed does with entries of one read."""
    await on.app.feed._take(entries)


async def append(on: Rig, *ids: str, user: str = "alice") -> None:
    """Contents and inbox entries that nobody hints at."""
    for message_id in ids:
        await on.app.stores.contents.publish(to_users([user], "hello", message_id), 60)
        await on.app.stores.inbox.append(user, message_id, 60)


async def tell(on: Rig, *entries: FeedEntry) -> None:
    """Append to the pod's feed as any pod does."""
    for entry in entries:
        await on.app.stores.feeds.append(on.app.pod, entry)


def reads(on: Rig) -> Gate:
    """Counts the reads of inboxes from here on, by holding them."""
    return hold(on.app.stores.commands, "inbox_read")


# -- pushed at once, or not: the sequence decides


@pytest.mark.gen_test
async def test_the_next_message_is_pushed_at_once_without_a_look_at_the_inbox(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        await append(on, "m-1", "m-2")
        line = await on.live()
        gate = reads(on)
        await take(on, hints((3, "m-3")))
        assert line.wire.ids == ["m-1", "m-2", "m-3"]
        assert (line.connection.upto, line.connection.state, gate.count) == (3, State.LIVE, 0)
        assert line.connection.ledger.sent["m-3"].source == "live"
        assert on.counted("deliveries_total", source="live") == 1
        # The inbox is read by nobody later, either: there is no task.
        await on.barrier()
        assert gate.count == 0


@pytest.mark.gen_test
async def test_messages_that_follow_each_other_are_pushed_in_one_write_whatever_their_order(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        gate = reads(on)
        writes = len(line.wire.writes)
        await take(on, hints((2, "m-2"), (4, "m-4")), hints((3, "m-3"), (1, "m-1")))
        assert line.wire.ids == ["m-1", "m-2", "m-3", "m-4"]
        assert (line.connection.upto, len(line.wire.writes), gate.count) == (4, writes + 1, 0)


@pytest.mark.gen_test
async def test_what_is_older_means_nothing(redis_server: RedisServer) -> None:
    """It waited in the feed: perhaps it was settled before this connection was there (rule 8)."""
    async with rig(redis_server.url) as on:
        await append(on, "m-1", "m-2")
        await on.app.stores.inbox.settle("alice", ["m-1", "m-2"])
        line = await on.live()
        gate = reads(on)
        await take(on, hints((1, "m-1"), (2, "m-2")))
        await take(on, hints((2, "m-2")))
        assert (line.wire.ids, line.connection.upto, gate.count) == ([], 2, 0)
        assert line.connection.state is State.LIVE


@pytest.mark.gen_test
async def test_a_hint_that_comes_twice_pushes_once(redis_server: RedisServer) -> None:
    """Also after the message was confirmed, settled and forgotten."""
    async with rig(redis_server.url) as on:
        line = await on.live()
        await append(on, "m-1")
        gate = reads(on)
        await take(on, hints((1, "m-1"), (1, "m-1")))
        await take(on, hints((1, "m-1")))
        assert line.wire.ids == ["m-1"]
        line.pong()
        await on.settled()
        assert line.connection.ledger.sent == {}
        await take(on, hints((1, "m-1")))
        assert (line.wire.ids, gate.count, line.connection.upto) == (["m-1"], 0, 1)


@pytest.mark.gen_test
@pytest.mark.parametrize("told", [[(2, "m-2")], [(3, "m-3"), (2, "m-2")]])
async def test_behind_a_gap_nothing_is_pushed_and_the_inbox_is_looked_at(
    redis_server: RedisServer, told: list[tuple[int, str]]
) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        await append(on, "m-1", "m-2", "m-3")
        gate = reads(on)
        await take(on, hints(*told))
        assert (line.wire.ids, line.connection.state) == ([], State.CATCHING_UP)
        gate.open()
        await line.got("m-1", "m-2", "m-3")
        await line.live()
        assert line.connection.upto == 3
        assert {sent.source for sent in line.connection.ledger.sent.values()} == {"offline"}


@pytest.mark.gen_test
async def test_what_comes_before_a_gap_is_pushed_and_the_rest_looked_for(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        await append(on, "m-1", "m-2", "m-3")
        gate = reads(on)
        await take(on, hints((1, "m-1"), (3, "m-3")))
        assert line.wire.ids == ["m-1"]
        gate.open()
        await line.got("m-1", "m-2", "m-3")
        await line.live()
        assert line.connection.upto == 3


@pytest.mark.gen_test
async def test_a_content_that_is_not_in_the_cache_is_looked_for_with_the_inbox(
    redis_server: RedisServer,
) -> None:
    """The feed is not held up by it."""
    async with rig(redis_server.url) as on:
        line = await on.live()
        await append(on, "m-1", "m-2")
        content = hold(on.app.stores.commands, "content_read")
        await take(on, hints((1, "m-1"), (2, "m-2"), warm=False))
        assert (line.wire.ids, line.connection.state) == ([], State.CATCHING_UP)
        content.open()
        await line.got("m-1", "m-2")
        await line.live()
        assert line.connection.upto == 2


@pytest.mark.gen_test
async def test_a_text_that_no_client_could_read_is_not_pushed(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        await on.app.stores.inbox.append("alice", "m-1", 60)
        with capture_logs() as lines:
            await take(on, Hints([Hint("alice", 1, "m-1")], {"m-1": (b"not JSON", FAR)}))
        assert [entry["event"] for entry in lines] == ["content.invalid"]
        await line.live()
        assert line.wire.ids == []
        assert await on.inbox() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("window", [{"window": 2}, {"window_bytes": 150}])
async def test_what_has_no_room_comes_when_there_is_room(
    redis_server: RedisServer, window: dict[str, int]
) -> None:
    async with rig(redis_server.url, delivery=window) as on:
        line = await on.live()
        await append(on, "m-1", "m-2", "m-3")
        await take(on, hints((1, "m-1"), (2, "m-2"), (3, "m-3")))
        assert line.wire.ids == ["m-1", "m-2"]
        assert (line.connection.upto, line.connection.state) == (2, State.CATCHING_UP)
        line.pong()
        await line.got("m-1", "m-2", "m-3")
        await line.live()
        assert line.connection.upto == 3


@pytest.mark.gen_test
async def test_while_catching_up_nothing_is_pushed_directly_and_the_inbox_is_read_once_more(
    redis_server: RedisServer,
) -> None:
    """Rules 4 and 7 of the model."""
    async with rig(redis_server.url) as on:
        await append(on, "m-1")
        page = hold(on.app.stores.commands, "presence_set", answers=True)
        line = on.open()
        await page.reached.wait()
        await append(on, "m-2")
        await take(on, hints((2, "m-2")))
        assert (line.wire.ids, line.connection.wants_look) == ([], True)
        page.open()
        await line.got("m-1", "m-2")
        await line.live()


@pytest.mark.gen_test
async def test_an_id_that_is_in_flight_already_is_not_pushed_again(redis_server: RedisServer) -> None:
    """Its sequence begins anew when nothing was appended for long, or another program appended it."""
    async with rig(redis_server.url) as on:
        await on.app.stores.contents.publish(to_users(["alice"], "hello", "m-1"), 60)
        await on.app.stores.commands.call("RPUSH", "ps:inbox:{alice}", "m-1")
        line = await on.live()
        assert (line.wire.ids, line.connection.upto) == (["m-1"], 0)
        await take(on, hints((1, "m-1")))
        await line.live()
        assert line.wire.ids == ["m-1"]


@pytest.mark.gen_test
async def test_each_connection_of_a_user_decides_for_itself(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await append(on, "m-1")
        ahead = await on.live()
        page = hold(on.app.stores.commands, "presence_set", answers=True)
        behind = on.open()
        await page.reached.wait()
        await append(on, "m-2")
        await take(on, hints((2, "m-2")))
        assert (ahead.wire.ids, behind.wire.ids) == (["m-1", "m-2"], [])
        page.open()
        await behind.got("m-1", "m-2")


@pytest.mark.gen_test
async def test_a_connection_that_was_closed_gets_nothing(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        gone, here = await on.live(), await on.live()
        gone.end(1000)
        written = len(gone.wire.writes)
        await take(on, hints((1, "m-1")))
        assert (len(gone.wire.writes), here.wire.ids) == (written, ["m-1"])


@pytest.mark.gen_test
async def test_many_users_are_served_in_slices(redis_server: RedisServer) -> None:
    """Between them others have their turn."""
    async with rig(redis_server.url) as on:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count())
        await asyncio.sleep(0)
        before = turns
        told = [Hint(f"user-{number}", 1, "m-1") for number in range(3 * SLICE)]
        await take(on, Hints(told))
        assert turns - before == 2
        counting.cancel()


# -- who is not here


@pytest.mark.gen_test
async def test_a_user_who_is_not_here_is_reconciled(redis_server: RedisServer) -> None:
    """Rule 19 of the model: what is stale is mended by whoever meets it."""
    async with rig(redis_server.url) as on:
        await on.app.stores.presence.write(on.app.presence.boot, "alice", 1, 0)
        assert await on.present() is not None
        await take(on, hints((1, "m-1")))
        await on.flushed()
        assert await on.present() is None


@pytest.mark.gen_test
async def test_a_user_who_is_here_is_not_marked(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.live()
        await on.flushed()
        await take(on, hints((1, "m-1")))
        assert on.app.presence.unflushed == 0


# -- for those only who are live


@pytest.mark.gen_test
async def test_a_message_for_the_live_goes_to_live_connections_of_its_users_and_is_stored_nowhere(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        live, other = await on.live(), await on.live("bob")
        page = hold(on.app.stores.commands, "presence_set", answers=True)
        catching_up = on.open()
        await page.reached.wait()
        await take(on, Push("m-1", text("m-1"), ["alice", "nobody"]))
        assert (live.wire.ids, other.wire.ids, catching_up.wire.ids) == (["m-1"], [], [])
        assert on.counted("live_only_total", result="pushed") == 1
        assert on.counted("live_only_total", result="dropped") == 1
        page.open()
        await catching_up.live()
        assert catching_up.wire.ids == []
        assert await on.inbox() == []
        # It is exposed when it was confirmed, and forgotten; the sequence is as it was.
        on.app.sessions.reminders.start()
        await eventually(lambda: live.wire.pings, within_s=5)
        live.pong()
        await on.settled()
        assert (live.connection.ledger.sent, live.connection.upto) == ({}, 0)
        assert on.counted("exposures_total", where="published") == 1


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "target, meant",
    [({}, {"a", "b", "c"}), ({"vip": ("3",)}, {"a", "b"}), ({"vip": ("3",), "hall": ("h",)}, {"b"})],
)
async def test_a_message_for_the_live_goes_to_whom_its_categories_mean(
    redis_server: RedisServer, target: dict[str, tuple[str, ...]], meant: set[str]
) -> None:
    async with rig(redis_server.url) as on:
        lines = {
            "a": await on.live("a", categories={"vip": ("3",)}),
            "b": await on.live("b", categories={"vip": ("3", "4"), "hall": ("h",)}),
            "c": await on.live("c"),
        }
        await take(on, Push("m-1", text("m-1"), [], target))
        assert {name for name, line in lines.items() if line.wire.ids == ["m-1"]} == meant


@pytest.mark.gen_test
async def test_a_message_for_the_live_that_has_no_room_is_dropped_and_counted(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url, delivery={"window": 1}) as on:
        line = await on.live()
        for message_id in ("m-1", "m-2", "m-1"):
            await take(on, Push(message_id, text(message_id), ["alice"]))
        assert line.wire.ids == ["m-1"]
        assert line.connection.state is State.LIVE
        assert on.counted("live_only_total", result="dropped") == 2


@pytest.mark.gen_test
async def test_a_message_for_the_live_that_no_client_could_read_goes_to_nobody(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        with capture_logs() as lines:
            await take(on, Push("m-1", b"not JSON", ["alice"]))
        assert [entry["event"] for entry in lines] == ["content.invalid"]
        assert line.wire.ids == []


# -- orders


@pytest.mark.gen_test
async def test_a_kick_closes_the_users_connections_on_this_pod(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        lines = [await on.live(), await on.live(), on.open()]
        other = await on.live("bob")
        await take(on, Kick("alice"), Kick("nobody"))
        assert [line.wire.closed_with[0] for line in lines if line.wire.closed_with] == [CloseCode.KICKED] * 3
        assert other.wire.closed_with is None
        await on.flushed()
        assert await on.present() is None


@pytest.mark.gen_test
async def test_a_change_of_categories_is_handed_on(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(redis_server.url) as on:
        changed: list[str] = []
        monkeypatch.setattr(on.app.feed, "_recategorize", changed.append)
        await take(on, Recategorize("alice"), Recategorize("bob"))
        assert changed == ["alice", "bob"]


# -- following


@pytest.mark.gen_test
async def test_what_is_appended_to_the_feed_is_done(redis_server: RedisServer) -> None:
    async with followed(redis_server) as on:
        line = await on.live()
        await tell(on, hints((1, "m-1")))
        await line.got("m-1")
        await tell(on, hints((2, "m-2")), Push("m-3", text("m-3"), ["alice"]), Kick("alice"))
        await eventually(lambda: line.wire.closed_with)
        assert line.wire.ids == ["m-1", "m-2", "m-3"]
        assert on.counted("feed_entries_total") == 4


@pytest.mark.gen_test
async def test_what_says_nothing_known_is_passed_by(redis_server: RedisServer) -> None:
    async with followed(redis_server) as on:
        line = await on.live()
        for fields in (["hints", "x"], ["of-a-newer-version", "{}"], [b"\xff", b"\xff"]):
            await on.app.stores.commands.call("XADD", FEED, "*", *fields)
        await tell(on, hints((1, "m-1")))
        await line.got("m-1")


@pytest.mark.gen_test(timeout=20)
async def test_a_redis_that_was_away_is_followed_again_where_it_was_left(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "PAUSE_S", 0.01)
    async with followed(redis_server) as on:
        line = await on.live()
        await tell(on, hints((1, "m-1")))
        await line.got("m-1")
        await eventually(lambda: on.counted("feed_entries_total") == 1)
        redis_server.kill()
        redis_server.start()

        async def told() -> bool:
            try:
                await tell(on, hints((2, "m-2")))
            except StoreError:
                return False
            return True

        await eventually(told, within_s=10)
        await eventually(lambda: line.wire.ids == ["m-1", "m-2"], within_s=10)


# -- never missing anything unnoticed


class Gaps:
    """Counts how often every inbox was to be looked at."""

    def __init__(self, on: Rig, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        patch.setattr(on.app.feed, "_on_gap", self._gap)
        self._on = on

    def _gap(self) -> None:
        self.count += 1

    async def beat(self) -> None:
        await self._on.app.lease._beat()


async def feed_length(on: Rig) -> int:
    return int(await on.app.stores.commands.call("XLEN", FEED))


@pytest.mark.gen_test
async def test_a_feed_that_lost_nothing_is_no_gap(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with followed(redis_server) as on:
        gaps, line = Gaps(on, monkeypatch), await on.live()
        await gaps.beat()
        await tell(on, hints((1, "m-1")))
        await line.got("m-1")
        await gaps.beat()
        assert (gaps.count, await feed_length(on)) == (0, 2)
        assert on.counted("feed_gaps_total") == 0


@pytest.mark.gen_test
async def test_what_was_read_before_it_was_trimmed_is_no_gap(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with followed(redis_server) as on:
        gaps, line = Gaps(on, monkeypatch), await on.live()
        await tell(on, hints((1, "m-1")), hints((2, "m-2")))
        await line.got("m-1", "m-2")
        await eventually(lambda: on.counted("feed_entries_total") == 2)
        await on.app.stores.commands.call("XTRIM", FEED, "MAXLEN", 1)
        await gaps.beat()
        assert gaps.count == 0


@pytest.mark.gen_test
async def test_a_feed_that_was_trimmed_before_it_was_read_is_a_gap(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This pod lags behind: every inbox is looked at instead."""
    async with rig(redis_server.url) as on:
        gaps = Gaps(on, monkeypatch)
        await tell(on, *(hints((seq, f"m-{seq}")) for seq in range(1, 5)))
        await on.app.stores.commands.call("XTRIM", FEED, "MAXLEN", 2)
        with capture_logs() as lines:
            await gaps.beat()
        assert [(line["event"], line["lost"]) for line in lines] == [("feed.gap", False)]
        assert (gaps.count, on.counted("feed_gaps_total")) == (1, 1)
        # What is left is read, and from then on nothing is missing.
        line = await on.live()
        on.app.tasks.spawn(on.app.feed.run(), "feed")
        await eventually(lambda: on.counted("feed_entries_total") == 2)
        await gaps.beat()
        assert gaps.count == 1
        await line.live()


@pytest.mark.gen_test
@pytest.mark.parametrize("lost", [("DEL", FEED), ("SET", FEED, "x"), ("XTRIM", FEED, "MAXLEN", 0)])
async def test_a_feed_that_is_gone_is_made_anew_and_is_a_gap(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, lost: Sequence[str | int]
) -> None:
    async with followed(redis_server) as on:
        gaps, line = Gaps(on, monkeypatch), await on.live()
        await on.app.stores.commands.call(*lost)
        with capture_logs() as lines:
            await gaps.beat()
        assert [(one["event"], one["lost"]) for one in lines] == [("feed.gap", True)]
        assert gaps.count == 1
        assert await feed_length(on) == 1
        await tell(on, hints((1, "m-1")))
        await line.got("m-1")
        await gaps.beat()
        assert gaps.count == 1


@pytest.mark.gen_test
async def test_a_feed_that_cannot_be_made_anew_is_tried_again_by_the_next_heartbeat(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the inboxes are looked at when hints find it again: before, the next would be lost."""
    async with followed(redis_server) as on:
        gaps, line = Gaps(on, monkeypatch), await on.live()
        await on.app.stores.commands.call("DEL", FEED)
        fault = refuse(on.app.stores.commands, "feed_open", times=1)
        with pytest.raises(type(fault.error)):
            await gaps.beat()
        assert gaps.count == 0
        await gaps.beat()
        assert gaps.count == 1
        await tell(on, hints((1, "m-1")))
        await line.got("m-1")


@pytest.mark.gen_test
async def test_a_gap_ends_with_every_message_that_nobody_told_of(redis_server: RedisServer) -> None:
    """No rescan but that one; the heartbeat notices."""
    async with followed(redis_server) as on:
        on.app.tasks.spawn(on.app.rescan.run(), "rescan")
        line, other = await on.live(), await on.live("bob")
        await append(on, "m-1")
        await append(on, "m-2", user="bob")
        await on.app.stores.commands.call("DEL", FEED)
        await on.app.lease._beat()
        await line.got("m-1")
        await other.got("m-2")


@pytest.mark.gen_test
async def test_a_new_boot_makes_its_feed_anew_before_presence_is_written_under_it(
    redis_server: RedisServer,
) -> None:
    """Else who reads that presence would find no feed, or one that nobody follows."""
    async with followed(redis_server) as on:
        line = await on.live()
        await on.flushed()
        await on.app.stores.commands.call("HSET", "ps:pod:{pod-1}", "expires", 1)
        opening = hold(on.app.stores.commands, "feed_open")
        writing = hold(on.app.stores.commands, "presence_set")
        beating = asyncio.ensure_future(on.app.lease._beat())
        await opening.reached.wait()
        await on.barrier()
        assert (writing.count, on.app.presence.boot) == (0, 1)
        opening.open()
        await writing.reached.wait()
        assert await feed_length(on) == 1
        writing.open()
        await beating
        await on.flushed()
        assert (await on.present(), on.app.lease.boot) == (2, 2)
        await tell(on, hints((1, "m-1")))
        await line.got("m-1")


@pytest.mark.gen_test
async def test_a_start_makes_the_feed(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        ((_, fields),) = await on.app.stores.commands.call("XRANGE", FEED, "-", "+")
        assert fields == [b"boot", b"1"]


@pytest.mark.gen_test
async def test_a_stuck_client_holds_up_nobody_elses_hints(redis_server: RedisServer) -> None:
    async with rig(redis_server.url, delivery={"window": 2}) as on:
        wire = Wire()
        stuck: Line = await on.live(wire=wire)
        fine = await on.live("bob")
        wire.stuck = True
        for seq in range(1, 5):
            await append(on, f"a-{seq}")
            await append(on, f"b-{seq}", user="bob")
            await take(on, hints((seq, f"a-{seq}")), hints((seq, f"b-{seq}"), user="bob"))
            fine.pong()
        assert fine.wire.ids == ["b-1", "b-2", "b-3", "b-4"]
        assert stuck.wire.ids == ["a-1", "a-2"]
