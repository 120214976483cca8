"""Following the log: each message reaches every connection that it means, once and in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import pytest

from pushserver.core import message as message_module
from pushserver.core.close_codes import CloseCode
from pushserver.core.deflate import MAX_DEFLATED_BYTES, deflated_frame
from pushserver.core.errors import StoreError, StoreUnavailableError
from pushserver.delivery import log_follower, settle, slices
from pushserver.delivery.connection import State
from tests.callbacks import short_callbacks
from tests.cpu_time import measured_again
from tests.delivery.log_rig import LogRig, log_rig
from tests.delivery.rig import Line
from tests.delivery.wire import Wire
from tests.engines.redis_server import RedisServer
from tests.gate import hold, refuse
from tests.pod import eventually
from tests.texts import store_text

Item = TypeVar("Item")

NOT_INLINE: dict[str, Any] = {"publish": {"inline_bytes": 0}}


# -- who


@pytest.mark.gen_test
async def test_every_connection_that_is_meant_gets_it_once_and_nobody_else(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        both = await on.comes("alice", categories={"vip": ("3", "4"), "hall": ("a",)})
        again = await on.comes("alice", categories={"vip": ("3",), "hall": ("a",)})
        other_hall = await on.comes("bob", categories={"vip": ("3",), "hall": ("b",)})
        nobody = await on.comes("carol")
        await on.told("m-1", target={"vip": ("3", "4"), "hall": ("a",)})
        await on.told("m-2", target={"vip": ("4", "3")})
        await on.told("m-3")
        await on.told("m-4", target={"hall": ("c", "b"), "vip": ("3",)})
        await both.got("m-1", "m-2", "m-3")
        await again.got("m-1", "m-2", "m-3")
        await other_hall.got("m-2", "m-3", "m-4")
        await nobody.got("m-3")


@pytest.mark.gen_test
async def test_each_that_is_given_it_counts_once_whichever_way_it_was(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        await on.comes("alice")
        await on.comes("bob", ack=True)
        full = await on.comes("carol")
        await on.told("m-1", "m-2")
        full.connection.fall_behind(0)
        await on.told("m-3")
        assert on.counted("deliveries_total", source="live") == 8


@pytest.mark.gen_test
async def test_its_ping_goes_out_by_the_time_that_was_planned(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url, delivery={"log_confirm_s": 0.3}) as on:
        line = await on.comes()
        await on.told("m-1")
        assert line.wire.pings == []
        on.app.sessions.reminders.start()
        await eventually(lambda: line.wire.pings, 2)


@pytest.mark.gen_test
async def test_what_arrives_live_is_exposed_as_live(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.told("m-1")
        await on.confirms(line)
        assert await on.exposed() == [("m-1", "alice", "live")]
        assert on.counted("deliveries_total", source="live") == 1
        assert on.counted("log_settled_total") == 1
        assert line.connection.ledger.sent == {}


# -- in order, once


@pytest.mark.gen_test
async def test_what_arrives_together_goes_out_in_one_write_in_order(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await store_text(
            on.app.stores.contents, "m-0", '{"type":"message","id":"m-0","time":1,"content":1}', 60
        )
        first = hold(on.app.stores.commands, "content_read")
        await on.app.stores.log.append("m-0", {}, "", 0)
        await first.reached.wait()
        for number in range(1, 5):
            await on.tell(f"m-{number}")
        before = len(line.wire.writes)
        first.open()
        await line.got("m-0", "m-1", "m-2", "m-3", "m-4")
        assert len(line.wire.writes) == before + 2


@pytest.mark.gen_test
async def test_large_messages_are_compressed_one_in_a_turn_and_only_for_who_takes_that(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = 0
    compressed: list[int] = []
    ticking: asyncio.Handle

    def tick() -> None:
        nonlocal turns, ticking
        turns += 1
        ticking = asyncio.get_running_loop().call_soon(tick)

    def compress(payload: bytes) -> bytes:
        compressed.append(turns)
        return deflated_frame(payload)

    monkeypatch.setattr(message_module, "deflated_frame", compress)
    ticking = asyncio.get_running_loop().call_soon(tick)
    async with log_rig(redis_server.url, **NOT_INLINE, server={"deflate": True}) as on:
        lines = [await on.comes(f"u-{number}", categories={"hall": (str(number),)}) for number in range(4)]
        for line in lines[:3]:
            line.connection.deflates_up_to = MAX_DEFLATED_BYTES
        content = hold(on.app.stores.commands, "content_read", answers=True)
        await on.tell("m-0")
        await content.reached.wait()
        for number in range(len(lines)):
            hall = {"hall": (str(number),)}
            await on.tell(f"m-{number + 1}", hall, content="large " * 10_000)
        content.open()
        await eventually(lambda: on.counted("deliveries_total", source="live") == 8)
        assert len(compressed) == len(set(compressed)) == 3
        for line in lines:
            # What waits goes out compressed, what the fourth gets does not.
            (large,) = [payload for opcode, payload in line.wire.frames if len(payload) > 200]
            assert (len(large) < 60_000) == (line is not lines[3])
    ticking.cancel()


@pytest.mark.gen_test
async def test_what_arrives_while_a_connection_catches_up_reaches_it_once(redis_server: RedisServer) -> None:
    """It is in the tail and not pushed yet: who comes, and who looks again, finds it there."""
    async with log_rig(redis_server.url, **NOT_INLINE) as on:
        live, looking, hinted = [await on.comes(user) for user in ("live", "looking", "hinted")]
        content = hold(on.app.stores.commands, "content_read", answers=True)
        await on.tell("m-1")
        await content.reached.wait()
        on.app.sessions.look_again(looking.connection)
        coming = await on.come("coming")
        await on.send("hinted", "inbox-1")
        on.app.sessions.look_again(hinted.connection)
        await on.barrier()
        assert [line.wire.ids for line in (live, looking, coming)] == [[], [], []]
        content.open()
        await on.told("m-2")
        for line in (live, looking, coming):
            await line.got("m-1", "m-2")
        await hinted.got("inbox-1", "m-1", "m-2")


@pytest.mark.gen_test
async def test_what_arrives_between_the_last_look_and_live_is_pushed(redis_server: RedisServer) -> None:
    """The look into the tail and going live are one step; the inbox is looked at once more before it."""
    async with log_rig(redis_server.url) as on:
        page = hold(on.app.stores.commands, "presence_set", answers=True)
        line = await on.come()
        await page.reached.wait()
        await on.told("m-1")
        read = hold(on.app.stores.commands, "inbox_read", answers=True)
        line.connection.wants_look = True
        page.open()
        await read.reached.wait()
        await on.told("m-2")
        assert line.connection.state is State.CATCHING_UP
        read.open()
        await line.live()
        await on.told("m-3")
        await line.got("m-1", "m-2", "m-3")


class Slices:
    """Holds a broadcast after its first connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(log_follower, "slices", self._held)

    async def _held(self, items: Sequence[Item]) -> AsyncIterator[Sequence[Item]]:
        yield items[:1]
        self.reached.set()
        await self.go.wait()
        yield items[1:]


@pytest.mark.gen_test
async def test_a_broadcast_in_slices_reaches_each_once_whatever_happens_in_between(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with log_rig(redis_server.url) as on:
        first = await on.comes("first")
        stays, looks, looks_long, leaves = [
            await on.comes(user) for user in ("stays", "looks", "looks long", "leaves")
        ]
        await on.told("m-0")
        held = Slices(monkeypatch)
        await on.tell("m-1")
        await held.reached.wait()
        await first.got("m-0", "m-1")
        # Goes catching up, and is live again before its slice comes.
        on.app.sessions.look_again(looks.connection)
        await looks.live()
        await looks.got("m-0", "m-1")
        await on.confirms(looks)
        # Is catching up when its slice comes.
        read = hold(on.app.stores.commands, "inbox_read", answers=True)
        on.app.sessions.look_again(looks_long.connection)
        await read.reached.wait()
        # Comes and goes live in between; it is in nobody's slice.
        comes = await on.comes("comes")
        leaves.leave()
        held.go.set()
        await on.offered()
        read.open()
        await on.told("m-2")
        for line in (first, stays, looks, looks_long):
            await line.got("m-0", "m-1", "m-2")
        await comes.got("m-1", "m-2")
        await leaves.got("m-0")


@pytest.mark.gen_test
async def test_nobody_new_starts_behind_a_broadcast_that_is_under_way(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until everybody was offered it, it counts as arriving."""
    async with log_rig(redis_server.url) as on:
        for user in ("a", "b"):
            await on.comes(user)
        held = Slices(monkeypatch)
        await on.tell("m-1")
        await held.reached.wait()
        new = await on.comes("new")
        held.go.set()
        await new.got("m-1")
        await on.offered()
        newer = await on.comes("newer")
        await on.told("m-2")
        await newer.got("m-2")


@pytest.mark.gen_test
async def test_an_entry_that_is_there_twice_reaches_nobody_twice(redis_server: RedisServer) -> None:
    """Another program appended it again, or a back end repeated it after its time."""
    async with log_rig(redis_server.url) as on:
        line = await on.comes(ack=True)
        await on.told("m-1", "m-2")
        line.say('{"type":"ack","ids":["m-1","m-2"]}')
        await on.settled()
        await on.app.stores.commands.call("DEL", on.app.stores.log._seen)
        await on.told("m-1", "m-3")
        await line.got("m-1", "m-2", "m-3")
        line.say('{"type":"ack","ids":["m-1","m-3"]}')
        assert line.connection.ledger.unconfirmed == 0


@pytest.mark.gen_test
async def test_an_id_that_is_given_to_two_messages_in_one_read_comes_once(redis_server: RedisServer) -> None:
    """As to a pod that comes back after the id was free again, or where another program appends both."""
    both = """
    for _, expires in ipairs({ARGV[2], ARGV[2] + 1}) do
      redis.call('XADD', KEYS[1], '*', 'id', 'm-1', 'to', '{}', 'text', ARGV[1], 'expires', expires)
    end
    """
    async with log_rig(redis_server.url) as on:
        line, plain = await on.comes(ack=True), await on.comes("bob")
        text, expires = (
            '{"type":"message","id":"m-1","time":1,"content":1}',
            on.app.stores.clock.now_ms() + 60_000,
        )
        await on.app.stores.commands.call("EVAL", both, 1, on.app.stores.log._key, text, expires)
        await on.offered()
        for one in (line, plain):
            await one.got("m-1")
            assert one.connection.ledger.unconfirmed == 1


@pytest.mark.gen_test
async def test_an_id_that_comes_again_while_the_first_is_only_noted_holds_the_cursor_back(
    redis_server: RedisServer,
) -> None:
    """In a read of its own: the client has the first, confirmed nothing, and gets all of it once more."""
    one = "redis.call('XADD', KEYS[1], '*', 'id', ARGV[1], 'to', '{}', 'text', ARGV[2], 'expires', ARGV[3])"
    async with log_rig(redis_server.url, delivery={"log_confirm_s": 20}) as on:
        line = await on.comes()
        expires, key = on.app.stores.clock.now_ms() + 60_000, on.app.stores.log._key
        for message_id, more in (("m-1", 0), ("between", 0), ("m-1", 1)):
            text = f'{{"type":"message","id":"{message_id}","time":1,"content":1}}'
            await on.app.stores.commands.call("EVAL", one, 1, key, message_id, text, expires + more)
            await on.offered()
        assert line.wire.ids == ["m-1", "between"]
        assert line.connection.ledger.unconfirmed == 2
        line.leave()
        await eventually(lambda: on.app.cursors.waiting == 0)
        again = await on.comes()
        assert set(again.wire.ids) == {"m-1", "between"}


# -- the window


@pytest.mark.gen_test
async def test_a_window_that_is_full_in_a_broadcast_gets_the_rest_from_the_tail_in_order(
    redis_server: RedisServer,
) -> None:
    """At the client's own pace, never more than its window at a time; others are not held up."""
    async with log_rig(redis_server.url, delivery={"window": 4}) as on:
        slow, quick = await on.comes("slow"), await on.brisk("quick")
        ids = [f"m-{number:02d}" for number in range(20)]
        await on.told(*ids)
        await eventually(lambda: quick.wire.ids == ids)
        assert slow.wire.ids == ids[:4]
        assert slow.connection.state is State.CATCHING_UP
        while (count := len(slow.wire.ids)) < 20:
            assert slow.wire.ids == ids[:count]
            assert slow.connection.ledger.unconfirmed == 4
            slow.pong()
            await eventually(lambda: len(slow.wire.ids) > count)
        await eventually(slow.live_after_pong)
        await on.told("later")
        await slow.got(*ids, "later")
        await on.settled()
        sources = {one for _, user, one in await on.exposed() if user == "slow"}
        assert sources == {"live", "log"}


@pytest.mark.gen_test
async def test_a_client_that_takes_nothing_holds_no_more_than_its_window(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url, delivery={"window_bytes": 65_536}) as on:
        wire = Wire()
        wire.stuck = True
        await on.comes("stuck", wire=wire)
        for number in range(50):
            await on.tell(f"m-{number}", content="x" * 10_000)
        await on.offered()
        await on.barrier()
        assert len(wire.ids) == 6
        assert wire.buffered < 70_000


# -- contents


@pytest.mark.gen_test
async def test_what_is_gone_or_cannot_be_read_is_passed_over_and_the_rest_arrives(
    redis_server: RedisServer,
) -> None:
    async with log_rig(redis_server.url, **NOT_INLINE) as on:
        line = await on.comes()
        stores = on.app.stores
        content = hold(stores.commands, "content_read")
        await on.tell("held")
        await content.reached.wait()
        await stores.log.append("gone", {}, "", 0)
        await store_text(stores.contents, "broken", "{", 60)
        await stores.log.append("broken", {}, "", 0)
        await stores.log.append("broken-inline", {}, "[]", on.app.stores.clock.now_ms() + 60_000)
        await stores.log.append("stale-inline", {}, '{"type":"message","id":"stale-inline"}', 5)
        await stores.commands.call("GEOADD", "ps:msg:foreign", 1, 1, "x")
        await stores.log.append("foreign", {}, "", 0)
        content.open()
        await on.told("last")
        await line.got("held", "last")
        # They are behind it as well: its cursor passes them.
        await on.confirms(line)
        assert line.connection.cursor(on.app.tail.offered) >= await on.at("last")


@pytest.mark.gen_test
async def test_redis_being_away_while_a_content_is_read_costs_latency_only(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url, **NOT_INLINE) as on:
        line = await on.comes()
        fault = refuse(on.app.stores.commands, "content_read", times=3)
        await on.told("m-1", "m-2")
        await line.got("m-1", "m-2")
        assert fault.count == 3


@pytest.mark.gen_test
async def test_a_small_text_comes_with_the_log_and_is_read_nowhere(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        read = hold(on.app.stores.commands, "content_read")
        await on.tell("m-1", content="small")
        await line.got("m-1")
        assert (read.count, line.wire.of("message")[0]["content"]) == (0, "small")
        read.open()


# -- recall


@pytest.mark.gen_test
async def test_what_was_recalled_before_its_entry_came_is_not_pushed(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url, follow=False) as on:
        await on.tell("m-1")
        await on.tell("m-2")
        assert await on.publisher.recall("m-1")
        await on.follow()
        line = on.open()
        await line.live()
        await line.got("m-2")
        assert on.counted("expired_total") == 0


@pytest.mark.gen_test
async def test_what_is_recalled_while_its_content_is_read_is_not_pushed(redis_server: RedisServer) -> None:
    """The content is in the answer that is on its way; the recall comes through the log before it."""
    async with log_rig(redis_server.url, **NOT_INLINE) as on:
        line = await on.comes()
        content = hold(on.app.stores.commands, "content_read", answers=True)
        await on.tell("m-1")
        await content.reached.wait()
        # As the next entry would say; this pod's follower is held by the content.
        assert await on.publisher.recall("m-1")
        on.app.contents.recall("m-1")
        content.open()
        await on.told("m-2")
        await line.got("m-2")


# -- what the pod has to survive


@pytest.mark.gen_test
async def test_entries_that_say_nothing_known_are_passed_over(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        line = await on.comes(categories={"vip": ("3",)})
        for flat in (["x", "y"], ["id", "m", "to", '{"color":["red"]}'], ["id", b"\xff", "to", "{}"]):
            await on.app.stores.commands.call("XADD", "ps:log", "*", *flat)
        await on.told("m-1", target={"vip": ("3",)})
        await line.got("m-1")


@pytest.mark.parametrize("how", ["DEL", "FLUSHALL"])
@pytest.mark.gen_test
async def test_a_log_that_is_lost_under_a_running_pod_is_followed_from_its_new_beginning(
    redis_server: RedisServer, how: str
) -> None:
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.told("m-1")
        await on.app.stores.commands.call(*(("DEL", "ps:log") if how == "DEL" else ("FLUSHALL",)))
        await on.told("m-2", "m-3")
        await line.got("m-1", "m-2", "m-3")
        back = await on.comes("bob")
        await on.told("m-4")
        await back.got("m-4")


@pytest.mark.gen_test(timeout=30)
async def test_reads_that_fail_are_counted_and_repeated(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.app.stores.commands.call("SET", "ps:log", "not a stream")
        await eventually(lambda: on.counted("redis_errors_total", kind="wrongtype") or _refused(on))
        await on.app.stores.commands.call("DEL", "ps:log")
        await on.told("m-1")
        await line.got("m-1")


def _refused(on: LogRig) -> bool:
    samples = [one for metric in on.app.metrics.registry.collect() for one in metric.samples]
    return any(one.name == "pushserver_redis_errors_total" and one.value for one in samples)


# -- before the pod takes traffic


@pytest.mark.gen_test
async def test_the_tail_holds_what_the_log_does_before_anybody_comes(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url, follow=False) as on:
        for number in range(5):
            await on.tell(f"m-{number}", {"vip": (str(number % 2),)})
        await on.app.stores.commands.call("XADD", "ps:log", "*", "x", "y")
        last = (await on.app.stores.log.range()).last
        await on.app.log_follower.load()
        tail = on.app.tail
        assert (len(tail), tail.start, tail.position, tail.offered) == (5, 0, last, last)
        line = on.open(categories={"vip": ("0",)})
        await line.live()
        await line.got("m-0", "m-2", "m-4")


@pytest.mark.gen_test
async def test_a_trimmed_log_is_known_to_begin_late(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url, follow=False) as on:
        for number in range(5):
            await on.tell(f"m-{number}")
        places = await on.places()
        await on.app.stores.commands.call("XTRIM", "ps:log", "MAXLEN", "=", 2)
        await on.app.log_follower.load()
        assert len(on.app.tail) == 2
        assert places["m-2"] <= on.app.tail.start < places["m-3"]


@pytest.mark.parametrize("step", ["EXISTS", "XINFO", "XRANGE"])
@pytest.mark.gen_test
async def test_a_load_that_fails_says_so(redis_server: RedisServer, step: str) -> None:
    """A pod that knows half of the log must not take traffic."""
    async with log_rig(redis_server.url, follow=False) as on:
        await on.tell("m-1")
        fault = refuse(on.app.stores.commands, step)
        with pytest.raises(StoreUnavailableError):
            await on.app.log_follower.load()
        fault.end()
        await on.app.log_follower.load()
        assert len(on.app.tail) == 1


@pytest.mark.gen_test
async def test_what_comes_while_the_tail_is_loaded_is_followed(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url, follow=False) as on:
        await on.tell("m-1")
        read = hold(on.app.stores.commands, "XRANGE", answers=True)
        loading = asyncio.ensure_future(on.follow())
        await read.reached.wait()
        await on.tell("m-2")
        read.open()
        await loading
        line = on.open()
        await line.got("m-1", "m-2")


# -- what it costs


CONNECTIONS = 3000


async def _crowd(on: LogRig, count: int) -> list[Line]:
    lines = [on.open(f"u-{number}", categories={"vip": ("3",)}) for number in range(count)]
    await eventually(lambda: all(line.connection.state is State.LIVE for line in lines), 30)
    return lines


async def _commands(on: LogRig) -> dict[bytes, bytes]:
    """Calls of each command so far, as Redis counts them."""
    text: bytes = await on.app.stores.commands.call("INFO", "commandstats")
    pairs = (line.split(b":calls=") for line in text.splitlines() if b":calls=" in line)
    return {name: rest.split(b",")[0] for name, rest in pairs}


@measured_again
@pytest.mark.gen_test(timeout=60)
async def test_a_broadcast_to_thousands_holds_the_loop_shortly_and_costs_as_many_commands_as_to_one(
    redis_server: RedisServer,
) -> None:
    spent = []
    async with log_rig(redis_server.url, delivery={"log_confirm_s": 25}) as on:
        for size, message_id in ((1, "warm"), (1, "m-1"), (CONNECTIONS, "m-2")):
            lines = on.lines if len(on.lines) >= size else await _crowd(on, size)
            before = await _commands(on)
            with short_callbacks():
                await on.told(message_id, target={"vip": ("3",)})
            after = await _commands(on)
            grew = {name: int(after[name]) - int(before.get(name, 0)) for name in after}
            spent.append({name: count for name, count in grew.items() if count and b"info" not in name})
            assert all(line.wire.ids[-1] == message_id for line in lines)
    # Only how often the follower looked depends on the moment.
    few, many = [{name: n for name, n in one.items() if b"xread" not in name} for one in spent[1:]]
    assert many == few


@measured_again
@pytest.mark.gen_test(timeout=60)
async def test_a_burst_of_broadcasts_holds_the_loop_no_longer_than_one(redis_server: RedisServer) -> None:
    """A hundred are read at once and go to each connection in one write."""
    async with log_rig(redis_server.url, delivery={"log_confirm_s": 25}, **NOT_INLINE) as on:
        lines = await _crowd(on, 1500)
        content = hold(on.app.stores.commands, "content_read")
        await on.tell("m-0")
        await content.reached.wait()
        for number in range(1, 100):
            await on.tell(f"m-{number}")
        with short_callbacks():
            content.open()
            await eventually(lambda: len(lines[-1].wire.writes) > 1)
            await on.offered()
        assert all(len(line.wire.ids) == 100 for line in (lines[0], lines[-1]))


@measured_again
@pytest.mark.gen_test(timeout=60)
async def test_nor_does_a_burst_of_which_everybody_is_due_something_else(redis_server: RedisServer) -> None:
    chance = random.Random(1)
    async with log_rig(redis_server.url, delivery={"log_confirm_s": 25}, **NOT_INLINE) as on:
        due = [sorted(chance.sample(range(100), 10)) for _ in range(4000)]
        lines = [
            on.open(f"u-{number}", categories={"level": tuple(map(str, levels))})
            for number, levels in enumerate(due)
        ]
        await eventually(lambda: all(line.connection.state is State.LIVE for line in lines), 30)
        content = hold(on.app.stores.commands, "content_read")
        await on.tell("m-0", target={"level": ("0",)})
        await content.reached.wait()
        for number in range(1, 100):
            await on.tell(f"m-{number}", target={"level": (str(number),)})
        with short_callbacks():
            content.open()
            await on.offered()
        for line, levels in zip(lines, due, strict=True):
            assert line.wire.ids == [f"m-{number}" for number in levels]


@pytest.mark.gen_test
async def test_slices_weigh_what_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 10)
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(count)

    async def turns_of(weight: Callable[[Any], int]) -> int:
        before = turns
        assert [item async for item in slices.in_slices(range(40), weight)] == list(range(40))
        return turns - before

    count()
    assert await turns_of(lambda item: 1) in {3, 4}
    assert await turns_of(lambda item: 10) in {39, 40}
    assert await turns_of(lambda item: 0) in {0, 1}


@pytest.mark.gen_test
async def test_a_store_that_fails_in_any_way_known_is_no_end(redis_server: RedisServer) -> None:
    async with log_rig(redis_server.url, follow=False) as on:
        line = await on.comes()
        read, failures = on.app.stores.log.read, 2

        async def failing(after: int, count: int) -> Any:
            nonlocal failures
            if failures:
                failures -= 1
                raise StoreError("loading", "a fault of the test")
            return await read(after, count)

        on.app.stores.log.read = failing
        await on.follow()
        await on.told("m-1")
        await line.got("m-1")
        assert on.counted("redis_errors_total", kind="loading") == 2


@pytest.mark.gen_test
async def test_whose_node_is_away_holds_up_nobody_it_does_not_mean(redis_server: RedisServer) -> None:
    """In a cluster, contents are on all nodes. Whom it means gets it, and what follows, when it is back."""
    async with log_rig(redis_server.url, publish={"inline_bytes": 0}) as on:
        meant = await on.brisk("alice", categories={"vip": ("3",)})
        other = await on.brisk("bob")
        fault = refuse(
            on.app.stores.commands, "content_read", only=lambda arguments: "away" in str(arguments)
        )
        await on.told("away", target={"vip": ("3",)})
        await on.told("m-2")
        await other.got("m-2")
        assert meant.wire.ids == []
        await eventually(lambda: fault.count > 1)
        fault.end()
        await meant.got("away", "m-2")
        await on.settled()


@pytest.mark.gen_test
async def test_a_pod_that_the_log_was_trimmed_beyond_sends_everybody_away_to_be_told(
    redis_server: RedisServer,
) -> None:
    """It hung, and lost messages that it was to push."""
    async with log_rig(redis_server.url, follow=False, log={"max_length": 100}) as on:
        await on.app.log_follower.load()
        line = await on.comes()
        await asyncio.gather(*(on.tell(f"m-{number}") for number in range(450)))
        assert (await on.app.stores.log.range()).trimmed_upto > on.app.tail.position
        on.app.tasks.spawn(on.app.log_follower.run(), "log")
        await eventually(lambda: line.wire.closed_with)
        assert line.wire.closed_with == (CloseCode.NO_PROGRESS, "too far behind")
        line.end()
        await on.offered()
        back = await on.comes()
        assert back.wire.of("live")[0]["gap"] is True
        assert len(back.wire.ids) >= 90


@pytest.mark.gen_test
async def test_who_confirms_and_leaves_at_once_is_not_given_it_again(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "GATHER_S", 3600)
    async with log_rig(redis_server.url) as on:
        line = await on.comes()
        await on.told("m-1")
        line.connection.ping(0.0)
        line.pong()
        line.leave()
        await on.settled()
        await eventually(lambda: on.app.cursors.waiting == 0)
        assert (await on.comes()).wire.ids == []
