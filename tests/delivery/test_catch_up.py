"""Catching up: everything that waits, in order, at the client's pace, whatever happens in between."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence

import pytest

from pushserver.core.message import Message
from pushserver.core.metrics import Metrics
from pushserver.delivery.catch_up import CatchUp, CaughtUp
from pushserver.delivery.connection import Connection
from pushserver.delivery.content import Contents
from pushserver.delivery.pushing import READ_AHEAD, Pushing
from pushserver.parts import Stores
from pushserver.stores.inbox import Missed
from tests.delivery.wire import Answering, Wire, connection, limits
from tests.gate import hold, refuse
from tests.pod import eventually
from tests.texts import message_text, store_text

PAGE = 10


class Bench:
    """What catching up stands on: real stores, and a cache."""

    def __init__(
        self, stores: Stores, metrics: Metrics, *, page: int = PAGE, cache_bytes: int = 10**7
    ) -> None:
        self.stores = stores
        self._metrics = metrics
        self.contents = Contents(
            stores.contents, stores.clock, metrics, cache_bytes=cache_bytes, max_bytes=10**7
        )
        pushing = Pushing(self.contents, stores.clock, metrics)
        self.catch_up = CatchUp(stores.inbox, self.contents, pushing, metrics, page=page)

    async def send(self, *ids: str, size: int = 1) -> None:
        """Store contents of `size` characters, and append the ids as publish does."""
        for message_id in ids:
            await self.content(message_id, size)
            await self.stores.inbox.append("alice", message_id, 60)

    async def content(self, message_id: str, size: int = 1) -> None:
        await store_text(self.stores.contents, message_id, message_text(message_id, 1, "x" * size), 60)

    async def put(self, *entries: str | bytes) -> None:
        """Append to the list as any program can."""
        await self.stores.commands.call("RPUSH", "ps:inbox:{alice}", *entries)

    async def inbox(self) -> list[str]:
        entries = await self.stores.commands.call("LRANGE", "ps:inbox:{alice}", 0, -1)
        return [entry.decode("latin-1") for entry in entries]

    async def settle(self, one: Connection, ids: Sequence[str]) -> None:
        """What the settler does."""
        await self.stores.inbox.settle("alice", ids)
        one.settled(ids)

    def counted(self, name: str, **labels: str) -> float:
        return self._metrics.registry.get_sample_value(f"pushserver_{name}", labels) or 0.0


@pytest.fixture
def bench(stores: Stores, metrics: Metrics) -> Bench:
    return Bench(stores, metrics)


def names(count: int, first: int = 0) -> list[str]:
    return [f"m-{number:05}" for number in range(first, first + count)]


def answering(**window: int) -> tuple[Connection, Answering]:
    """A connection whose client answers at once."""
    wire = Answering()
    wire.connection = connection(wire=wire, window=limits(**window))
    return wire.connection, wire


# -- what waits arrives


@pytest.mark.gen_test
async def test_an_empty_inbox_is_caught_up_at_once(bench: Bench) -> None:
    one, wire = answering()
    assert await bench.catch_up.run(one, None) == CaughtUp(0, Missed())
    assert wire.writes == []


@pytest.mark.gen_test
async def test_an_empty_page_that_was_read_already_costs_no_other_read(bench: Bench) -> None:
    one, _ = answering()
    page = await bench.stores.inbox.read("alice", PAGE)
    trips = bench.counted("redis_round_trips_total")
    assert await bench.catch_up.run(one, page) == CaughtUp(0, Missed())
    assert bench.counted("redis_round_trips_total") == trips


@pytest.mark.gen_test
@pytest.mark.parametrize("count", [1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 95])
async def test_all_that_waits_is_pushed_once_and_in_order(bench: Bench, count: int) -> None:
    """Nothing is settled meanwhile, so every page begins with what was sent already."""
    await bench.send(*names(count))
    one, wire = answering()
    page = await bench.stores.inbox.read("alice", PAGE)
    assert await bench.catch_up.run(one, page) == CaughtUp(count, Missed())
    assert wire.ids == names(count)
    assert one.upto == count
    assert bench.counted("deliveries_total", source="offline") == count
    assert {sent.source for sent in one.ledger.sent.values()} == {"offline"}


@pytest.mark.gen_test
async def test_all_that_waits_is_pushed_once_and_in_order_while_it_is_settled(bench: Bench) -> None:
    """Each confirm takes ids out of the list, in front of the page that is read next."""
    await bench.send(*names(95))
    settling: list[asyncio.Future[None]] = []
    wire = Answering(lambda ids: settling.append(asyncio.ensure_future(bench.settle(one, ids))))
    one = wire.connection = connection(wire=wire, window=limits(messages=7))
    assert await bench.catch_up.run(one, None) == CaughtUp(95, Missed())
    await asyncio.gather(*settling)
    assert wire.ids == names(95)
    assert await bench.inbox() == []
    assert one.ledger.sent == {}


@pytest.mark.gen_test
async def test_ten_thousand_messages_arrive_in_order(stores: Stores, metrics: Metrics) -> None:
    bench = Bench(stores, metrics, page=128)
    for start in range(0, 10_000, 1000):
        some = names(1000, start)
        await asyncio.gather(*(bench.content(message_id) for message_id in some))
        await bench.put(*some)
    settling: set[asyncio.Future[None]] = set()

    def settle(ids: list[str]) -> None:
        task = asyncio.ensure_future(bench.settle(one, ids))
        settling.add(task)
        task.add_done_callback(settling.discard)

    wire = Answering(settle)
    one = wire.connection = connection(wire=wire)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, one.ledger.unconfirmed)
            await asyncio.sleep(0)

    watching = asyncio.ensure_future(watch())
    caught_up = await bench.catch_up.run(one, None)
    watching.cancel()
    await asyncio.gather(*settling, return_exceptions=True)
    assert caught_up == CaughtUp(10_000, Missed())
    assert wire.ids == names(10_000)
    assert most <= 256
    assert await bench.inbox() == []


@pytest.mark.gen_test
async def test_what_is_appended_behind_unsettled_messages_is_found(bench: Bench) -> None:
    """A page that is full of what was sent already says nothing about what comes behind it."""
    await bench.send(*names(3 * PAGE))
    one, wire = answering()
    await bench.catch_up.run(one, None)
    await bench.send("late")
    assert await bench.catch_up.run(one, None) == CaughtUp(1, Missed())
    assert wire.ids == [*names(3 * PAGE), "late"]


@pytest.mark.gen_test
async def test_what_arrives_while_the_last_page_is_read_is_looked_for_once_more(bench: Bench) -> None:
    one, wire = answering()
    gate = hold(bench.stores.commands, "inbox_read", answers=True)
    running = asyncio.ensure_future(bench.catch_up.run(one, None))
    await gate.reached.wait()
    await bench.send("m-1")
    one.wants_look = True
    gate.open()
    assert await running == CaughtUp(1, Missed())
    assert wire.ids == ["m-1"]


@pytest.mark.gen_test
async def test_what_was_missed_is_told_as_it_stands_at_the_end(bench: Bench) -> None:
    await bench.stores.commands.call("HSET", "ps:missed:{alice}", "evicted", 3, "parked", 1)
    await bench.send("m-1")
    await bench.put("gone-1", "gone-2")
    one, _ = answering()
    assert await bench.catch_up.run(one, None) == CaughtUp(1, Missed(expired=2, evicted=3, parked=1))


# -- entries that are no messages


@pytest.mark.gen_test
async def test_ids_whose_content_is_gone_are_dropped_and_counted(bench: Bench) -> None:
    await bench.put("gone-1")
    await bench.send("m-1")
    await bench.put("gone-2", "gone-3")
    await bench.send("m-2")
    one, wire = answering()
    await bench.catch_up.run(one, None)
    assert wire.ids == ["m-1", "m-2"]
    assert await bench.inbox() == ["m-1", "m-2"]
    assert bench.counted("expired_total") == 3


@pytest.mark.gen_test
async def test_a_thousand_dead_ids_do_not_keep_a_living_one_for_a_second(
    stores: Stores, metrics: Metrics
) -> None:
    bench = Bench(stores, metrics, page=128)
    await bench.content("alive")
    await bench.put(*names(1000), "alive")
    one, wire = answering()
    started, trips = time.monotonic(), bench.counted("redis_round_trips_total")
    assert await bench.catch_up.run(one, None) == CaughtUp(1, Missed(expired=1000))
    assert wire.ids == ["alive"]
    # For each page: the page, contents in three portions, and the removal.
    assert bench.counted("redis_round_trips_total") - trips <= 9 * 5 + 1
    # It takes hundredths; the rest is room for a busy machine.
    assert time.monotonic() - started < 3
    assert await bench.inbox() == ["alive"]


@pytest.mark.gen_test
async def test_entries_that_are_no_ids_are_dropped_and_counted(bench: Bench) -> None:
    await bench.put(b"\xff\xfe", "", "a b", "x" * 65, "姓名", "../..", "m\n1")
    await bench.send("m-1")
    await bench.put(*[b"\x00"] * (2 * PAGE))
    await bench.send("m-2")
    one, wire = answering()
    await bench.catch_up.run(one, None)
    assert wire.ids == ["m-1", "m-2"]
    assert await bench.inbox() == ["m-1", "m-2"]
    assert bench.counted("expired_total") == 7 + 2 * PAGE


@pytest.mark.gen_test
async def test_an_id_that_stands_in_the_list_twice_is_pushed_once_as_long_as_it_is_known(
    bench: Bench,
) -> None:
    for message_id in ("m-1", "m-2"):
        await bench.content(message_id)
    await bench.put("m-1", "m-2", "m-1", *["m-2"] * PAGE)
    one, wire = answering()
    assert await bench.catch_up.run(one, None) == CaughtUp(2, Missed())
    assert wire.ids == ["m-1", "m-2"]


@pytest.mark.gen_test
async def test_a_content_that_no_client_could_read_is_dropped(bench: Bench) -> None:
    await bench.stores.commands.call("SET", "ps:msg:bad", "not JSON")
    await bench.put("bad")
    await bench.send("m-1")
    one, wire = answering()
    await bench.catch_up.run(one, None)
    assert wire.ids == ["m-1"]
    assert await bench.inbox() == ["m-1"]
    assert bench.counted("invalid_content_total") == 1


# -- the client's pace


@pytest.mark.gen_test
async def test_never_more_than_the_window_is_unconfirmed(bench: Bench) -> None:
    await bench.send(*names(25))
    wire = Wire()
    one = connection(wire=wire, window=limits(messages=4))
    running = asyncio.ensure_future(bench.catch_up.run(one, None))
    while len(wire.ids) < 25:
        await eventually(lambda: one.room() == 0)
        assert one.ledger.unconfirmed == 4
        one.pong(wire.pings[-1], 0.0)
        await bench.settle(one, wire.ids)
        await eventually(lambda: one.room() == 0 or len(wire.ids) == 25)
    assert await running == CaughtUp(25, Missed())
    assert wire.ids == names(25)


@pytest.mark.gen_test
async def test_what_is_confirmed_and_cannot_be_settled_stops_the_window_at_twice_its_size(
    bench: Bench,
) -> None:
    await bench.send(*names(25))
    wire = Wire()
    one = connection(wire=wire, window=limits(messages=4))
    running = asyncio.ensure_future(bench.catch_up.run(one, None))
    for pushed in (4, 8):
        await eventually(lambda pushed=pushed: len(wire.ids) == pushed)  # type: ignore[misc]  # mypy infers no lambda with a default
        one.pong(wire.pings[-1], 0.0)
    assert (one.ledger.unconfirmed, one.room(), len(wire.ids)) == (0, 0, 8)
    await bench.settle(one, wire.ids)
    await eventually(lambda: len(wire.ids) > 8)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.gen_test
async def test_never_more_than_the_windows_bytes_are_unconfirmed(bench: Bench) -> None:
    await bench.send(*names(8), size=1000)
    frame = len(message_text("m-00000", 1, "x" * 1000)) + 4
    wire = Wire()
    one = connection(wire=wire, window=limits(bytes=3 * frame))
    running = asyncio.ensure_future(bench.catch_up.run(one, None))
    for sent in (3, 6):
        await eventually(lambda: len(wire.ids) == sent)  # noqa: B023 - awaited in its turn
        assert one.ledger.unconfirmed_bytes == 3 * frame
        one.pong(wire.pings[-1], 0.0)
    assert await running == CaughtUp(8, Missed())


@pytest.mark.gen_test
async def test_a_message_larger_than_the_window_goes_alone_and_in_its_turn(bench: Bench) -> None:
    await bench.send("small-1", "small-2")
    await bench.send("large", size=5000)
    await bench.send("small-3")
    wire = Wire()
    one = connection(wire=wire, window=limits(bytes=1000))
    running = asyncio.ensure_future(bench.catch_up.run(one, None))
    for ids in (["small-1", "small-2"], ["large"], ["small-3"]):
        await eventually(lambda: wire.ids[-len(ids) :] == ids)  # noqa: B023 - awaited in its turn
        assert one.ledger.unconfirmed == len(ids)
        one.pong(wire.pings[-1], 0.0)
    assert await running == CaughtUp(4, Missed())
    assert wire.ids == ["small-1", "small-2", "large", "small-3"]


@pytest.mark.gen_test
async def test_dead_ids_between_messages_that_wait_for_room_are_dropped_once(bench: Bench) -> None:
    """What did not fit is looked up again; what was dead before it is done with."""
    await bench.send("m-1", size=900)
    await bench.put("gone-1")
    await bench.send("m-2", size=900)
    await bench.put("gone-2")
    wire = Wire()
    one = connection(wire=wire, window=limits(bytes=1000))
    running = asyncio.ensure_future(bench.catch_up.run(one, None))
    for ids in (["m-1"], ["m-1", "m-2"]):
        await eventually(lambda: wire.ids == ids)  # noqa: B023 - awaited in its turn
        one.pong(wire.pings[-1], 0.0)
    await running
    assert bench.counted("expired_total") == 2
    assert await bench.inbox() == ["m-1", "m-2"]


def living_messages() -> int:
    gc.collect()
    return sum(isinstance(one, Message) for one in gc.get_objects())


@pytest.mark.gen_test
async def test_a_client_that_waits_holds_no_content(stores: Stores, metrics: Metrics) -> None:
    """The cache is too small for these contents, so what lives is held by the one who waits."""
    bench = Bench(stores, metrics, page=128, cache_bytes=1000)
    await bench.send(*names(100), size=5000)
    wire = Wire()
    one = connection(wire=wire, window=limits(bytes=12_000))
    before = living_messages()
    running = asyncio.ensure_future(bench.catch_up.run(one, None))
    await eventually(lambda: len(wire.ids) == 2 and one._room is not None)
    assert living_messages() == before
    one.closed()
    assert await running is None


@pytest.mark.gen_test
async def test_large_contents_are_not_read_over_and_over(stores: Stores, metrics: Metrics) -> None:
    """A client whose window takes two at a time costs about as many reads as it is sent messages."""
    bench = Bench(stores, metrics, page=128, cache_bytes=1000)
    await bench.send(*names(100), size=5000)
    wire = Answering()
    one = wire.connection = connection(wire=wire, window=limits(bytes=12_000))
    await bench.catch_up.run(one, None)
    assert wire.ids == names(100)
    assert bench.counted("content_cache_misses_total") <= READ_AHEAD + 2 * 100


# -- whatever happens in between


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["inbox_read", "content_read", "inbox_remove"])
@pytest.mark.parametrize("answers", [False, True])
async def test_while_redis_does_not_answer_nothing_is_lost_doubled_or_dropped(
    bench: Bench, step: str, answers: bool
) -> None:
    await bench.send(*names(PAGE))
    await bench.put("gone")
    await bench.send("last")
    fault = refuse(bench.stores.commands, step, times=2, answers=answers)
    one, wire = answering()
    caught_up = await bench.catch_up.run(one, None)
    assert fault.count == 2
    assert caught_up is not None
    assert caught_up.delivered == PAGE + 1
    assert wire.ids == [*names(PAGE), "last"]
    assert await bench.inbox() == [*names(PAGE), "last"]
    assert one.ledger._settled_meanwhile is None


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["inbox_read", "content_read", "inbox_remove"])
async def test_a_connection_that_closes_at_any_step_is_let_go_of(bench: Bench, step: str) -> None:
    await bench.put("gone")
    await bench.send(*names(3))
    one, wire = answering()
    gate = hold(bench.stores.commands, step)
    running = asyncio.ensure_future(bench.catch_up.run(one, None))
    await gate.reached.wait()
    one.closed()
    wire.abort()
    written = len(wire.writes)
    gate.open()
    async with asyncio.timeout(5):
        assert await running is None
    assert len(wire.writes) == written


@pytest.mark.gen_test
async def test_a_connection_that_closes_while_it_waits_for_room_is_let_go_of(bench: Bench) -> None:
    await bench.send(*names(3))
    wire = Wire()
    one = connection(wire=wire, window=limits(messages=1))
    running = asyncio.ensure_future(bench.catch_up.run(one, None))
    await eventually(lambda: one._room is not None)
    one.closed()
    assert await running is None
    assert wire.ids == names(1)


@pytest.mark.gen_test
async def test_a_connection_that_closes_while_redis_is_away_is_let_go_of(bench: Bench) -> None:
    one, _ = answering()
    fault = refuse(bench.stores.commands, "inbox_read")
    running = asyncio.ensure_future(bench.catch_up.run(one, None))
    await eventually(lambda: fault.count)
    one.closed()
    async with asyncio.timeout(5):
        assert await running is None
    assert one.ledger._settled_meanwhile is None
