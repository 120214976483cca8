"""Reconciling: users of each message, counted once each, against those it was accepted for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import pytest
from tornado.ioloop import IOLoop

from pushserver.backend import Backend, open_backend
from pushserver.core.errors import StoreUnavailableError
from pushserver.core.publication import Publication
from pushserver.reconcile import MARGIN_MS, Balance, Kept, Reconciled, Reconciler
from tests.engines.redis_cluster import RedisCluster
from tests.engines.redis_server import RedisServer
from tests.gate import hold, refuse
from tests.pod import settings
from tests.texts import to_users

CAP = 3


class Books:
    """A publisher, and a database of exposures that knows what the test tells it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.inbox = backend.stores.inbox
        self.exposed: defaultdict[str, set[str]] = defaultdict(set)
        self.looks = 0
        self.queued_at: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.since = 0
        kept = Kept(self._counted, 3600, backend.stores.clock.now_ms)
        self.reconciler = Reconciler(backend.stores.whereabouts, self._look, kept)

    def _look(self, asked: Mapping[str, int]) -> Mapping[str, set[str]]:
        self.looks += 1
        self.queued_at |= asked
        return {message_id: set(self.exposed[message_id]) for message_id in asked}

    def _counted(self, since_ms: int) -> Mapping[str, int]:
        self.since = since_ms
        return self.counts

    async def send(self, message_id: str, *users: str) -> None:
        await self.backend.publisher.publish(to_users(users, "hello", message_id, 100))

    async def shown(self, message_id: str, *users: str) -> None:
        """Delivered, exposed and settled."""
        self.exposed[message_id] |= set(users)
        for user in users:
            await self.inbox.settle(user, [message_id])

    async def reconciled(self, wait_s: float = 0) -> Reconciled:
        return await self.reconciler.period(0, wait_s)

    async def balance(self) -> dict[str, int]:
        """Of the one message there is, what is not 0."""
        (one,) = (await self.reconciled()).balances
        names = [name for name in Balance.__slots__ if name not in {"message_id", "queued_at"}]
        return {name: getattr(one, name) for name in names if getattr(one, name)}


@asynccontextmanager
async def books_on(url: str) -> AsyncIterator[Books]:
    async with open_backend(settings(url, inbox={"cap": CAP})) as backend:
        yield Books(backend)


@pytest.fixture
def books(io_loop: IOLoop, redis_server: RedisServer) -> Iterator[Books]:
    opened = books_on(redis_server.url)
    yield io_loop.run_sync(opened.__aenter__)
    io_loop.run_sync(lambda: opened.__aexit__(None, None, None))


@pytest.mark.gen_test
async def test_every_way_out_of_an_inbox_counts(books: Books) -> None:
    await books.send("m", "shown", "waits", "expired", "evicted", "recalled", "parked", "erased")
    await books.shown("m", "shown")
    await books.inbox.drop_expired("expired", ["m"])
    await books.inbox.drop_recalled("recalled", ["m"])
    for number in range(CAP):
        await books.inbox.append("evicted", f"newer-{number}", 10)
    for _ in range(3):
        await books.inbox.blame("parked", "m")
    await books.backend.users.erase("erased")
    ways = ("exposed", "waiting", "expired", "evicted", "recalled", "parked", "erased")
    assert await books.balance() == {"accepted": 7, **dict.fromkeys(ways, 1)}


@pytest.mark.gen_test
async def test_what_vanished_is_a_difference(books: Books) -> None:
    await books.send("fine", "alice")
    await books.send("m", "alice", "bob")
    await books.inbox.settle("alice", ["m"])
    found = await books.reconciled()
    (differing,) = found.differing
    assert (differing.message_id, differing.waiting, differing.difference) == ("m", 1, 1)
    assert (found.totals["accepted"], found.totals["difference"]) == (3, 1)
    told = found.as_json(everything=False)
    assert (told["messages"], told["differing"]) == (2, 1)
    assert [one.message_id for one in found.balances] == ["fine", "m"]


@pytest.mark.gen_test
async def test_an_exposure_on_its_way_to_the_database_is_waited_for(books: Books) -> None:
    await books.send("fine", "alice")
    await books.send("m", "alice")
    await books.inbox.settle("alice", ["m"])
    asyncio.get_running_loop().call_later(0.3, lambda: books.exposed["m"].add("alice"))
    assert not (await books.reconciled(30)).differing
    assert books.looks > 1


@pytest.mark.gen_test
async def test_who_is_exposed_and_not_yet_settled_counts_once(books: Books) -> None:
    await books.send("m", "alice", "bob")
    books.exposed["m"].add("alice")
    assert await books.balance() == {"accepted": 2, "exposed": 1, "waiting": 1}


@pytest.mark.gen_test
async def test_redis_is_read_before_the_database(books: Books) -> None:
    """The other way round, what is exposed and settled in between would be in neither."""
    await books.send("m", "alice")
    reading = hold(books.backend.stores.commands, "user_look")
    found = asyncio.ensure_future(books.reconciled())
    await reading.reached.wait()
    assert books.looks == 0
    await books.shown("m", "alice")
    reading.open()
    assert not (await found).differing


@pytest.mark.gen_test
async def test_a_publish_that_was_not_completed_is_left_out_until_a_repeat_completes_it(books: Books) -> None:
    refuse(
        books.backend.stores.commands, "inbox_append", times=1, only=lambda arguments: "bob" in str(arguments)
    )
    with pytest.raises(StoreUnavailableError):
        await books.send("m", "alice", "bob")
    found = await books.reconciled()
    assert (found.balances, found.unfinished) == ([], ["m"])
    await books.send("m", "alice", "bob")
    await books.send("m", "alice", "bob")
    assert await books.balance() == {"accepted": 2, "waiting": 2}
    assert (await books.reconciled()).unfinished == []


@pytest.mark.gen_test
async def test_a_publish_whose_note_fails_is_not_answered_202(books: Books) -> None:
    refuse(books.backend.stores.commands, "message_accepted", times=1)
    with pytest.raises(StoreUnavailableError):
        await books.send("m", "alice")
    await books.send("m", "alice")
    assert await books.balance() == {"accepted": 1, "waiting": 1}


@pytest.mark.gen_test
async def test_a_repeat_long_after_reaches_a_user_again_who_counts_once(books: Books) -> None:
    """Of a publish that was not completed, whose user had it all the same."""
    refuse(books.backend.stores.commands, "message_accepted", times=1)
    with pytest.raises(StoreUnavailableError):
        await books.send("m", "alice")
    await books.shown("m", "alice")
    await books.backend.stores.commands.call("DEL", "ps:seen:{alice}")
    await books.send("m", "alice")
    assert await books.inbox.ids("alice") == ["m"]
    assert await books.balance() == {"accepted": 1, "exposed": 1}


@pytest.mark.gen_test
async def test_what_waits_without_a_content_has_expired_or_was_recalled(books: Books) -> None:
    await books.send("m", "alice", "bob")
    await books.shown("m", "bob")
    await books.backend.stores.commands.call("DEL", "ps:msg:m")
    assert await books.balance() == {"accepted": 2, "exposed": 1, "expired": 1}
    await books.backend.publisher.recall("m")
    assert await books.balance() == {"accepted": 2, "exposed": 1, "recalled": 1}


@pytest.mark.gen_test
async def test_what_was_parked_stays_so_when_it_is_recalled(books: Books) -> None:
    await books.send("m", "alice")
    for _ in range(3):
        await books.inbox.blame("alice", "m")
    await books.backend.publisher.recall("m")
    assert await books.balance() == {"accepted": 1, "parked": 1}
    await books.inbox.put_back("alice", "m")
    assert await books.balance() == {"accepted": 1, "recalled": 1}


@pytest.mark.gen_test
async def test_what_was_put_back_and_vanished_then_is_a_difference(books: Books) -> None:
    await books.send("m", "alice")
    for _ in range(3):
        await books.inbox.blame("alice", "m")
    await books.inbox.put_back("alice", "m")
    await books.inbox.settle("alice", ["m"])
    assert await books.balance() == {"accepted": 1, "difference": 1}


@pytest.mark.gen_test
async def test_a_user_who_is_erased_after_the_exposure_counts_there(books: Books) -> None:
    """Erased between exposure and removal, one would count twice."""
    await books.send("m", "alice")
    books.exposed["m"].add("alice")
    await books.backend.users.erase("alice")
    assert await books.balance() == {"accepted": 1, "exposed": 1}


@pytest.mark.gen_test
async def test_more_users_than_were_named_are_a_difference_too(books: Books) -> None:
    """Another program put the id into an inbox."""
    await books.send("m", "alice")
    await books.backend.stores.commands.call("RPUSH", "ps:inbox:{mallory}", "m")
    assert await books.balance() == {"accepted": 1, "waiting": 2, "difference": -1}


@pytest.mark.gen_test
async def test_only_messages_to_users_of_the_period_are_looked_at(books: Books) -> None:
    await books.send("old", "alice")
    record = await books.backend.stores.whereabouts.message("old")
    await asyncio.sleep(0.01)
    await books.send("new", "alice")
    (new,) = (await books.reconciler.period((record.queued_at or 0) + 1, 0)).balances
    assert new.message_id == "new"
    assert books.queued_at == {"new": new.queued_at}, "an id may have been another message's before"
    (old,) = (await books.reconciler.message("old", 0)).balances
    assert old.waiting == 1
    assert (await books.reconciler.message("none", 0)).balances == []


@pytest.mark.gen_test
async def test_users_of_whom_not_all_is_noted_are_told_of(books: Books) -> None:
    await books.send("m", "alice")
    await books.inbox.settle("alice", ["m"])
    await books.backend.stores.commands.call("RPUSH", "ps:gone:{alice}", *["expired 1 x"] * 1000)
    found = await books.reconciled()
    assert (found.full, len(found.differing)) == (["alice"], 1)
    books.exposed["m"].add("alice")
    assert (await books.reconciled()).full == [], "they explain nothing where nothing differs"


@pytest.mark.gen_test
async def test_exposures_of_messages_that_redis_does_not_know_do_not_add_up(books: Books) -> None:
    """Of whatever kind: in Redis nothing is missing, for all of it is."""
    await books.send("m", "alice")
    for one in (
        Publication("c", "1", 60, categories={}),
        Publication("l", "1", 60, users=("alice",), offline=False),
    ):
        await books.backend.publisher.publish(one)
    await books.backend.stores.commands.call("SET", "ps:msg:foreign", "x")
    books.counts = dict.fromkeys(("m", "c", "l", "foreign"), 1)
    assert (await books.reconciled()).adds_up
    await books.backend.stores.commands.call("FLUSHALL")
    books.counts |= {f"lost-{number:02}": 2 for number in range(20)}
    found = await books.reconciled()
    assert not found.adds_up
    assert (found.unknown.exposures, found.unknown.messages, len(found.unknown.ids)) == (44, 24, 10)
    told = found.as_json(everything=False)
    assert told["unknown"] == {"exposures": 44, "messages": 24, "ids": found.unknown.ids}


@pytest.mark.gen_test
async def test_no_record_is_missed_that_may_have_gone_by_itself(books: Books) -> None:
    await books.reconciled()
    now_ms = books.backend.stores.clock.now_ms()
    assert 0 <= now_ms - (books.since + 3_600_000 - MARGIN_MS) <= 60_000
    await books.reconciler.period(now_ms, 0)
    assert books.since == now_ms


@pytest.mark.gen_test
async def test_messages_are_asked_for_in_portions(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushserver.reconcile.USERS_AT_ONCE", 4)
    for number in range(5):
        await books.send(f"m-{number}", "alice", "bob", "carol")
    assert not (await books.reconciled()).differing
    assert books.looks == 5


@pytest.mark.gen_test
async def test_on_a_cluster_it_looks_at_every_node(redis_cluster: RedisCluster) -> None:
    async with books_on(redis_cluster.url) as books:
        users = [f"user-{number}" for number in range(20)]
        for number in range(20):
            await books.send(f"m-{number}", *users)
        await books.shown("m-7", "user-1", "user-2")
        await books.backend.users.erase("user-3")
        found = await books.reconciled()
        sums = {name: count for name, count in found.totals.items() if count}
        # By the cap.
        evicted = 19 * (20 - CAP)
        assert sums["accepted"] == 400
        assert (sums["evicted"], sums["exposed"]) == (evicted - 2, 2)
        assert sums["erased"] == 20
        assert "difference" not in sums
