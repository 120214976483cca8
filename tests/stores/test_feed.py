"""A pod's feed: made by that pod alone, appended to by all, read by that pod."""

from __future__ import annotations

import pytest

from pushserver.core.errors import StoreRefusedError
from pushserver.stores import feed
from pushserver.stores.commands import Commands
from pushserver.stores.feed import FeedStore, Reach
from pushserver.stores.feed_entry import FeedEntry, Hint, Hints, Kick, Push, Recategorize
from pushserver.stores.keys import Keys
from pushserver.stores.lease import LeaseStore
from pushserver.stores.stream import StreamReader, position_of
from tests.stores.engines import REAL
from tests.stores.readers import reader

__all__ = ["reader"]

pytestmark = pytest.mark.parametrize("commands", REAL, indirect=True)
ABOUT = {"host": "host-1"}
HELLO = Hints([Hint("alice", 1, "m-1"), Hint("bob", 7, "m-1")], {"m-1": (b"\xff\x00text", 1_700_000_000_000)})


@pytest.fixture
def feeds(commands: Commands, keys: Keys, reader: StreamReader) -> FeedStore:
    return FeedStore(commands, keys, reader, "pod-1")


@pytest.fixture
def lease(commands: Commands, keys: Keys) -> LeaseStore:
    return LeaseStore(commands, keys, "pod-1", 60_000)


async def entries(feeds: FeedStore, after: int, count: int = 100) -> list[FeedEntry | None]:
    return [entry for _, entry in await feeds.read(after, count)]


@pytest.mark.gen_test
async def test_what_is_appended_is_read_in_order_behind_where_the_feed_begins(
    feeds: FeedStore, lease: LeaseStore
) -> None:
    await lease.take(7, ABOUT)
    start = await feeds.open(7)
    assert start is not None
    told: list[FeedEntry] = [HELLO, Push("m-2", b"text", ["alice"]), Kick("alice"), Recategorize("bob")]
    for entry in told:
        assert await feeds.append("pod-1", entry) is Reach.TAKEN
    assert await entries(feeds, start) == told
    (first, _), *_ = await feeds.read(start, 1)
    assert await entries(feeds, first) == told[1:]


@pytest.mark.gen_test
async def test_what_a_feed_begins_with_says_nothing_and_has_a_place(
    feeds: FeedStore, lease: LeaseStore
) -> None:
    await lease.take(7, ABOUT)
    start = await feeds.open(7)
    assert await feeds.read(0, 10) == [(start, None)]


@pytest.mark.gen_test
async def test_what_another_program_wrote_is_passed_by(
    feeds: FeedStore, lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await lease.take(7, ABOUT)
    start = await feeds.open(7)
    await commands.call("XADD", keys.feed("pod-1"), "*", b"\xff", b"\xfe", "hints", "x")
    await feeds.append("pod-1", Kick("alice"))
    assert await entries(feeds, start or 0) == [None, Kick("alice")]


@pytest.mark.gen_test
async def test_a_pod_with_a_lease_and_no_feed_is_about_to_make_one(
    feeds: FeedStore, lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await lease.take(7, ABOUT)
    assert await feeds.append("pod-1", Kick("alice")) is Reach.NO_FEED
    assert await commands.call("EXISTS", keys.feed("pod-1")) == 0


@pytest.mark.gen_test
async def test_a_pod_with_neither_feed_nor_lease_is_dead(
    feeds: FeedStore, lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    assert await feeds.append("pod-1", Kick("alice")) is Reach.DEAD
    await lease.take(7, ABOUT)
    await commands.call("HSET", keys.pod("pod-1"), "expires", 1)
    assert await feeds.append("pod-1", Kick("alice")) is Reach.DEAD
    assert await commands.call("EXISTS", keys.feed("pod-1")) == 0


@pytest.mark.gen_test
async def test_a_pod_whose_lease_ran_out_is_told_as_long_as_it_has_a_feed(
    feeds: FeedStore, lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    """It is cut off, perhaps, and reads on when it is back."""
    await lease.take(7, ABOUT)
    await feeds.open(7)
    await commands.call("HSET", keys.pod("pod-1"), "expires", 1)
    assert await feeds.append("pod-1", Kick("alice")) is Reach.TAKEN


@pytest.mark.gen_test
async def test_a_feed_that_is_made_anew_is_empty_and_begins_further_on(
    feeds: FeedStore, lease: LeaseStore
) -> None:
    await lease.take(7, ABOUT)
    before = await feeds.open(7)
    await feeds.append("pod-1", Kick("alice"))
    last = (await feeds.read(before or 0, 10))[-1][0]
    again = await feeds.open(7)
    assert again is not None
    assert again > last
    assert await feeds.read(0, 10) == [(again, None)]


@pytest.mark.gen_test
async def test_who_was_taken_over_does_not_make_the_feed_of_the_newer_boot_anew(
    feeds: FeedStore, lease: LeaseStore
) -> None:
    await lease.take(8, ABOUT)
    start = await feeds.open(8)
    await feeds.append("pod-1", Kick("alice"))
    assert await feeds.open(7) is None
    assert await feeds.open(9) is None
    assert await entries(feeds, start or 0) == [Kick("alice")]


@pytest.mark.gen_test
async def test_nobody_makes_a_feed_without_a_lease(feeds: FeedStore, commands: Commands, keys: Keys) -> None:
    assert await feeds.open(7) is None
    assert await commands.call("EXISTS", keys.feed("pod-1")) == 0


@pytest.mark.gen_test
async def test_a_feed_is_bounded_and_tells_by_its_first_entry_what_was_lost(
    feeds: FeedStore,
    lease: LeaseStore,
    commands: Commands,
    keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """About: the engine trims whole nodes of a hundred entries or so."""
    monkeypatch.setattr(feed, "FEED_MAX", 100)
    await lease.take(7, ABOUT)
    start = await feeds.open(7)
    for _ in range(500):
        await feeds.append("pod-1", Kick("alice"))
    assert 100 <= await commands.call("XLEN", keys.feed("pod-1")) < 400
    first = (await lease.renew(7)).feed_first
    assert first is not None
    assert start is not None
    assert first > start
    ((entry_id, _),) = await commands.call("XRANGE", keys.feed("pod-1"), "-", "+", "COUNT", 1)
    assert first == position_of(entry_id)


@pytest.mark.gen_test
async def test_each_pod_has_a_feed_of_its_own(
    feeds: FeedStore, lease: LeaseStore, commands: Commands, keys: Keys, reader: StreamReader
) -> None:
    other = FeedStore(commands, keys, reader, "pod-2")
    await lease.take(7, ABOUT)
    await LeaseStore(commands, keys, "pod-2", 60_000).take(8, ABOUT)
    starts = await feeds.open(7), await other.open(8)
    await feeds.append("pod-2", Kick("alice"))
    await other.append("pod-1", Kick("bob"))
    assert await entries(feeds, starts[0] or 0) == [Kick("bob")]
    assert await entries(other, starts[1] or 0) == [Kick("alice")]


@pytest.mark.gen_test
async def test_a_full_redis_takes_hints_and_orders_and_lets_a_pod_make_its_feed(
    feeds: FeedStore, lease: LeaseStore, commands: Commands
) -> None:
    """Its length is bounded, and a user must be disconnected there, too."""
    await lease.take(7, ABOUT)
    await commands.on_each_node("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(StoreRefusedError):
            await commands.call("SET", "any", "thing")
        start = await feeds.open(7)
        assert await feeds.append("pod-1", Kick("alice")) is Reach.TAKEN
        assert await entries(feeds, start or 0) == [Kick("alice")]
    finally:
        await commands.on_each_node("CONFIG", "SET", "maxmemory", "0")
