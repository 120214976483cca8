"""Publishing: content first, then each inbox or the log, then hints; once for each id."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from pushserver.core.errors import (
    IdReusedError,
    InvalidFieldError,
    RecalledError,
    StoreUnavailableError,
)
from pushserver.core.message import frame_of
from pushserver.core.metrics import Metrics
from pushserver.core.publication import Publication, Published
from pushserver.delivery import publish as publish_module
from pushserver.delivery.feeds import Feeds
from pushserver.delivery.tasks import Tasks
from pushserver.parts import Stores, build_publisher
from pushserver.stores.feed import FeedStore
from pushserver.stores.feed_entry import FeedEntry, Hint, Hints, Push, decode
from pushserver.stores.keys import Keys
from pushserver.stores.lease import LeaseStore
from pushserver.stores.presence import PresenceStore
from pushserver.stores.stream import fields_of
from tests.engines.redis_server import RedisServer
from tests.gate import hold, refuse
from tests.pod import eventually, settings
from tests.texts import to_users

KEYS = Keys("ps:")
INLINE_BYTES, MAX_BYTES = 200, 1000


class Bench:
    """A publisher on a real engine, and pods that are told."""

    def __init__(self, stores: Stores, metrics: Metrics, url: str) -> None:
        self.stores = stores
        self.commands = stores.commands
        self._metrics = metrics
        configured = settings(
            url, publish={"inline_bytes": INLINE_BYTES}, content={"max_bytes": MAX_BYTES, "max_ttl_s": 5000}
        )
        feeds = Feeds(stores.feeds, stores.presence, metrics, Tasks(metrics))
        self.publisher = build_publisher(configured, stores, feeds, metrics)
        self.publish = self.publisher.publish

    async def pod(self, name: str, *users: str, boot: int = 7) -> None:
        """A pod with its lease and its feed, where these users are."""
        await LeaseStore(self.commands, KEYS, name, 60_000).take(boot, {"host": name})
        await FeedStore(self.commands, KEYS, self.stores.reader, name).open(boot)
        for user in users:
            await PresenceStore(self.commands, KEYS, name).write(boot, user, 1, 0)

    async def told(self, name: str) -> list[FeedEntry | None]:
        """What the pod's feed holds behind its beginning."""
        _, *entries = await self.commands.call("XRANGE", KEYS.feed(name), "-", "+")
        return [decode(flat) for _, flat in entries]

    async def inbox(self, user: str) -> list[str]:
        return (await self.stores.inbox.read(user, 100_000)).ids

    async def content(self, message_id: str) -> Any:
        stored = await self.stores.contents.read(message_id)
        return None if stored is None else json.loads(stored.text)

    async def log(self) -> list[dict[bytes, bytes]]:
        entries = await self.commands.call("XRANGE", KEYS.log, "-", "+")
        return [fields_of(flat) for _, flat in entries]

    async def barrier(self) -> None:
        for _ in range(3):
            await self.commands.call("PING")

    def counted(self, name: str) -> float:
        return self._metrics.registry.get_sample_value(f"pushserver_{name}_total") or 0.0


@pytest.fixture
def bench(stores: Stores, metrics: Metrics, redis_server: RedisServer) -> Bench:
    return Bench(stores, metrics, redis_server.url)


HELLO = to_users(["alice", "bob"], {"text": "hi"}, "m-1", 60)
LIVE = replace(HELLO, offline=False)
TO_VIPS = Publication("m-1", '"hi"', 60, categories={"vip": ("3", "4")})


# -- to users


@pytest.mark.gen_test
async def test_a_message_is_in_the_inbox_of_every_user_with_one_content(bench: Bench) -> None:
    before = int((await bench.commands.call("TIME"))[0]) * 1000
    assert await bench.publish(HELLO) == Published("m-1", False, users=2, online=0)
    assert await bench.inbox("alice") == await bench.inbox("bob") == ["m-1"]
    frame = await bench.content("m-1")
    assert {**frame, "time": 0} == {"type": "message", "id": "m-1", "time": 0, "content": {"text": "hi"}}
    assert before <= frame["time"] < before + 10_000
    assert 0 < await bench.commands.call("TTL", "ps:msg:m-1") <= 60


@pytest.mark.gen_test
async def test_the_content_is_there_before_any_inbox_names_it(bench: Bench) -> None:
    gate = hold(bench.commands, "message_publish", answers=True)
    publishing = asyncio.ensure_future(bench.publish(HELLO))
    await gate.reached.wait()
    await bench.barrier()
    assert await bench.inbox("alice") == []
    assert await bench.content("m-1") is not None
    gate.open()
    await publishing
    assert await bench.inbox("alice") == ["m-1"]


@pytest.mark.gen_test
async def test_a_hint_goes_out_after_the_inbox_has_it_with_the_sequence_it_was_given(bench: Bench) -> None:
    await bench.stores.inbox.append("alice", "m-0", 60)
    await bench.pod("pod-2", "alice", "bob")
    await bench.pod("pod-3", "alice")
    gate = hold(bench.commands, "inbox_append", answers=True)
    publishing = asyncio.ensure_future(bench.publish(HELLO))
    await gate.reached.wait()
    await bench.barrier()
    assert await bench.told("pod-2") == []
    gate.open()
    assert await publishing == Published("m-1", False, users=2, online=2)
    text = (await bench.stores.contents.read("m-1")) or None
    assert text is not None
    assert text.expires_at is not None
    (entry,) = await bench.told("pod-2")
    assert isinstance(entry, Hints)
    assert entry.hints == [Hint("alice", 2, "m-1"), Hint("bob", 1, "m-1")]
    ((inlined, expires_at),) = entry.texts.values()
    assert inlined == text.text
    assert abs(expires_at - text.expires_at) < 1000
    (entry,) = await bench.told("pod-3")
    assert isinstance(entry, Hints)
    assert entry.hints == [Hint("alice", 2, "m-1")]


@pytest.mark.gen_test
async def test_an_answer_comes_after_the_pods_were_told(bench: Bench) -> None:
    await bench.pod("pod-2", "alice")
    gate = hold(bench.commands, "feed_append", answers=True)
    publishing = asyncio.ensure_future(bench.publish(HELLO))
    await gate.reached.wait()
    await bench.barrier()
    assert not publishing.done()
    gate.open()
    await publishing


@pytest.mark.gen_test
@pytest.mark.parametrize("spare", [0, -1])
async def test_a_text_goes_with_its_hint_only_if_it_is_small(bench: Bench, spare: int) -> None:
    await bench.pod("pod-2", "alice")
    empty = len(await _text(bench, to_users(["alice"], "", "m-0")))
    size = INLINE_BYTES - empty - spare
    await bench.publish(to_users(["alice"], "x" * size, "m-1"))
    *_, entry = await bench.told("pod-2")
    assert isinstance(entry, Hints)
    assert set(entry.texts) == ({"m-1"} if spare == 0 else set())


async def _text(bench: Bench, publication: Publication) -> bytes:
    await bench.publish(publication)
    stored = await bench.stores.contents.read(publication.id)
    assert stored is not None
    return stored.text


@pytest.mark.gen_test
async def test_a_pod_that_cannot_be_told_does_not_fail_a_publish(bench: Bench) -> None:
    await bench.pod("pod-2", "alice")
    fault = refuse(bench.commands, "feed_append", times=1)
    assert (await bench.publish(HELLO)).online == 1
    assert fault.count == 1

    async def told() -> bool:
        return bool(await bench.told("pod-2"))

    await eventually(told)


@pytest.mark.gen_test
async def test_what_is_published_first_is_stored_first(bench: Bench) -> None:
    ids = [f"m-{number:03}" for number in range(100)]
    await asyncio.gather(*(bench.publish(to_users(["alice"], 1, message_id)) for message_id in ids))
    assert await bench.inbox("alice") == ids


@pytest.mark.gen_test
async def test_users_beyond_a_slice_come_by_few_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_module, "SLICE", 3)
    users = [f"u-{number}" for number in range(10)]
    await bench.pod("pod-2", *users)
    gate = hold(bench.commands, "inbox_append")
    publishing = asyncio.ensure_future(bench.publish(to_users(users, 1, "m-1")))
    await gate.reached.wait()
    await bench.barrier()
    assert gate.count == 3
    gate.open()
    assert await publishing == Published("m-1", False, users=10, online=10)
    told = [entry for entry in await bench.told("pod-2") if isinstance(entry, Hints)]
    assert [hint.user for entry in told for hint in entry.hints] == users


@pytest.mark.gen_test
async def test_what_the_cap_evicts_is_counted(bench: Bench) -> None:
    bench.stores.inbox._cap = 2
    for number in range(5):
        await bench.publish(to_users(["alice"], number, f"m-{number}"))
    assert await bench.inbox("alice") == ["m-3", "m-4"]
    assert bench.counted("evicted") == 3


# -- of an id that is new


def new_message(message_id: str) -> Publication:
    return replace(to_users(["alice"], 1, message_id), id_is_new=True)


async def round_trips(bench: Bench, publication: Publication) -> float:
    before = bench.counted("redis_round_trips")
    await bench.publish(publication)
    return bench.counted("redis_round_trips") - before


@pytest.mark.gen_test
async def test_a_new_id_is_stored_in_one_round_trip_with_its_content(bench: Bench) -> None:
    await bench.publish(to_users(["alice"], 1, "m-1"))
    assert await round_trips(bench, to_users(["alice"], 1, "m-2")) == 3
    assert await round_trips(bench, new_message("m-3")) == 2
    assert await bench.inbox("alice") == ["m-1", "m-2", "m-3"]
    assert (await bench.content("m-3"))["content"] == 1


@pytest.mark.gen_test
async def test_new_ids_and_others_keep_their_order(bench: Bench) -> None:
    ids = [f"m-{number:02}" for number in range(50)]
    messages = [to_users(["alice"], 1, one) for one in ids]
    await asyncio.gather(
        *(bench.publish(replace(one, id_is_new=number % 3 > 0)) for number, one in enumerate(messages))
    )
    assert await bench.inbox("alice") == ids


@pytest.mark.gen_test
async def test_a_new_id_that_could_not_be_appended_is_told_and_completed_by_a_repeat(bench: Bench) -> None:
    refuse(bench.commands, "inbox_append", times=1)
    with pytest.raises(StoreUnavailableError):
        await bench.publish(new_message("m-1"))
    assert await bench.inbox("alice") == []
    assert await bench.publish(to_users(["alice"], 1, "m-1")) == Published("m-1", False, users=1, online=0)
    assert await bench.inbox("alice") == ["m-1"]


@pytest.mark.gen_test
async def test_a_new_id_whose_content_is_not_stored_is_in_no_inbox(bench: Bench) -> None:
    refuse(bench.commands, "message_publish", times=1)
    with pytest.raises(StoreUnavailableError):
        await bench.publish(new_message("m-1"))
    assert await bench.inbox("alice") == []
    assert (await bench.publish(new_message("m-1"))).duplicate is False
    assert await bench.inbox("alice") == ["m-1"]


@pytest.mark.gen_test
async def test_nor_is_it_asked_for_when_the_content_failed_while_it_waited_for_its_turn(bench: Bench) -> None:
    gate = hold(bench.commands, "message_publish", answers=True)
    first = asyncio.ensure_future(bench.publish(to_users(["alice"], 1, "m-1")))
    await gate.reached.wait()
    refuse(bench.commands, "message_publish", times=1)
    appends = hold(bench.commands, "inbox_append", only=lambda arguments: "m-2" in arguments)
    second = asyncio.ensure_future(bench.publish(new_message("m-2")))
    await bench.barrier()
    gate.open()
    await first
    with pytest.raises(StoreUnavailableError):
        await second
    assert appends.count == 0
    assert await bench.inbox("alice") == ["m-1"]


# -- a repeat


@pytest.mark.gen_test
async def test_repeating_a_publish_completes_what_was_begun_and_reaches_nobody_twice(bench: Bench) -> None:
    refuse(bench.commands, "inbox_append", times=1, only=lambda arguments: "bob" in str(arguments))
    with pytest.raises(StoreUnavailableError):
        await bench.publish(HELLO)
    assert (await bench.inbox("alice"), await bench.inbox("bob")) == (["m-1"], [])
    before = await bench.content("m-1")
    assert await bench.publish(HELLO) == Published("m-1", False, users=2, online=0)
    assert await bench.inbox("alice") == await bench.inbox("bob") == ["m-1"]
    assert await bench.content("m-1") == before
    assert await bench.publish(HELLO) == Published("m-1", True, users=2, online=0)


@pytest.mark.gen_test
async def test_when_one_inbox_fails_the_others_are_hinted_at_all_the_same(bench: Bench) -> None:
    """They are stored: perhaps nobody repeats the publish."""
    await bench.pod("pod-2", "alice", "bob")
    refuse(bench.commands, "inbox_append", times=1, only=lambda arguments: "bob" in str(arguments))
    with pytest.raises(StoreUnavailableError):
        await bench.publish(HELLO)
    (entry,) = await bench.told("pod-2")
    assert isinstance(entry, Hints)
    assert [hint.user for hint in entry.hints] == ["alice"]


@pytest.mark.gen_test
async def test_a_repeat_of_what_was_completed_reaches_nobody_twice_however_much_came_since(
    bench: Bench,
) -> None:
    """The ids that an inbox remembers are bounded in number; that it was completed is on record."""
    await bench.publish(HELLO)
    await bench.stores.inbox.settle("alice", ["m-1"])
    await bench.commands.call("DEL", "ps:seen:{alice}", "ps:seen:{bob}")
    assert (await bench.publish(HELLO)).duplicate
    assert (await bench.inbox("alice"), await bench.inbox("bob")) == ([], ["m-1"])


@pytest.mark.gen_test
async def test_a_repeat_hints_at_what_still_waits_and_not_at_what_was_settled(bench: Bench) -> None:
    """Rule 5 of the model: the first publisher may have died before its hint."""
    await bench.publish(HELLO)
    await bench.stores.inbox.settle("bob", ["m-1"])
    await bench.pod("pod-2", "alice", "bob")
    assert (await bench.publish(HELLO)).duplicate
    (entry,) = await bench.told("pod-2")
    assert isinstance(entry, Hints)
    assert entry.hints == [Hint("alice", 1, "m-1")]
    # What is stored counts; a repeat may say the same in other words.
    assert entry.texts == {}


@pytest.mark.gen_test
async def test_another_message_under_the_same_id_reaches_nobody(bench: Bench) -> None:
    await bench.publish(HELLO)
    for other in (
        to_users(["alice", "bob"], "other", "m-1", 60),
        to_users(["alice", "bob", "carol"], {"text": "hi"}, "m-1", 60),
        TO_VIPS,
        LIVE,
    ):
        with pytest.raises(IdReusedError):
            await bench.publish(other)
    assert (await bench.inbox("carol"), await bench.log()) == ([], [])
    # The order of users is no difference.
    assert (await bench.publish(replace(HELLO, users=("bob", "alice")))).duplicate


# -- refused before anything is written


@pytest.mark.gen_test
@pytest.mark.parametrize("offline", [True, False])
async def test_a_message_that_no_pod_would_push_is_refused(bench: Bench, offline: bool) -> None:
    """At the bound it is taken, and is what a pod reads; one byte more, and nothing is written."""
    size = MAX_BYTES - len(await _text(bench, to_users(["alice"], "", "m-0")))
    largest = to_users(["alice"], "x" * size, "m-1")
    text = await _text(bench, largest)
    assert len(text) == MAX_BYTES
    assert frame_of("m-1", text, MAX_BYTES).id == "m-1"
    keys = await bench.commands.call("DBSIZE")
    with pytest.raises(InvalidFieldError) as refusal:
        await bench.publish(replace(to_users(["alice"], "x" * (size + 1), "m-2"), offline=offline))
    assert refusal.value.field == "content"
    assert await bench.commands.call("DBSIZE") == keys


# -- to categories and everyone


@pytest.mark.gen_test
@pytest.mark.parametrize("target", [{"vip": ("3", "4"), "hall": ("h",)}, {}])
async def test_a_message_to_categories_is_one_content_and_one_entry_of_the_log(
    bench: Bench, target: dict[str, tuple[str, ...]]
) -> None:
    await bench.pod("pod-2", "alice")
    publication = replace(TO_VIPS, categories=target)
    assert await bench.publish(publication) == Published("m-1")
    (entry,) = await bench.log()
    stored = await bench.stores.contents.read("m-1")
    assert stored is not None
    assert stored.expires_at is not None
    assert entry[b"id"] == b"m-1"
    assert json.loads(entry[b"to"]) == {kind: list(values) for kind, values in target.items()}
    assert entry[b"text"] == stored.text
    assert abs(int(entry[b"expires"]) - stored.expires_at) < 1000
    assert await bench.told("pod-2") == []


@pytest.mark.gen_test
async def test_a_large_text_is_not_in_the_log(bench: Bench) -> None:
    await bench.publish(replace(TO_VIPS, content=json.dumps("x" * INLINE_BYTES)))
    (entry,) = await bench.log()
    assert set(entry) == {b"id", b"to", b"expires"}
    assert (await bench.content("m-1"))["content"] == "x" * INLINE_BYTES


@pytest.mark.gen_test
async def test_the_content_is_there_before_the_log_names_it(bench: Bench) -> None:
    gate = hold(bench.commands, "log_append")
    publishing = asyncio.ensure_future(bench.publish(TO_VIPS))
    await gate.reached.wait()
    assert await bench.content("m-1") is not None
    assert await bench.log() == []
    gate.open()
    await publishing


@pytest.mark.gen_test
async def test_a_repeat_to_categories_completes_what_was_begun_once(bench: Bench) -> None:
    refuse(bench.commands, "log_append", times=1)
    with pytest.raises(StoreUnavailableError):
        await bench.publish(TO_VIPS)
    assert await bench.publish(TO_VIPS) == Published("m-1", False)
    refuse(bench.commands, "log_append", times=1, answers=True)
    with pytest.raises(StoreUnavailableError):
        await bench.publish(TO_VIPS)
    assert await bench.publish(TO_VIPS) == Published("m-1", True)
    assert len(await bench.log()) == 1


# -- recall


@pytest.mark.gen_test
@pytest.mark.parametrize("publication", [HELLO, TO_VIPS, LIVE])
async def test_a_message_that_was_recalled_is_gone_and_is_published_no_more(
    bench: Bench, publication: Publication
) -> None:
    await bench.publish(publication)
    before = await bench.log()
    for _ in range(2):
        assert await bench.publisher.recall("m-1")
    assert await bench.log() == [*before, {b"recall": b"m-1"}, {b"recall": b"m-1"}]
    with pytest.raises(RecalledError):
        await bench.stores.contents.read("m-1")
    with pytest.raises(RecalledError):
        await bench.publish(publication)


@pytest.mark.gen_test
async def test_a_message_that_nobody_knows_is_not_recalled_and_no_pod_is_told(bench: Bench) -> None:
    assert not await bench.publisher.recall("m-1")
    assert await bench.log() == []


@pytest.mark.gen_test
async def test_a_recall_that_failed_half_way_is_completed_by_a_repeat(bench: Bench) -> None:
    await bench.publish(HELLO)
    refuse(bench.commands, "XADD", times=1)
    with pytest.raises(StoreUnavailableError):
        await bench.publisher.recall("m-1")
    assert await bench.publisher.recall("m-1")
    assert await bench.log() == [{b"recall": b"m-1"}]


# -- to those only who are live


@pytest.mark.gen_test
async def test_a_message_for_the_live_goes_to_the_pods_where_its_users_are_and_is_stored_nowhere(
    bench: Bench,
) -> None:
    await bench.pod("pod-2", "alice", "bob")
    await bench.pod("pod-3", "alice")
    await bench.pod("pod-4", "dave")
    publication = replace(to_users(["alice", "bob", "carol"], "hi", "m-1", 60), offline=False)
    assert await bench.publish(publication) == Published("m-1", False, users=3, online=2)
    (push,) = await bench.told("pod-2")
    assert isinstance(push, Push)
    assert (push.message_id, push.users, push.categories) == ("m-1", ["alice", "bob"], None)
    assert frame_of("m-1", push.text, MAX_BYTES).id == "m-1"
    assert [one.users for one in await bench.told("pod-3") if isinstance(one, Push)] == [["alice"]]
    assert await bench.told("pod-4") == []
    assert await bench.inbox("alice") == []
    assert await bench.content("m-1") is None
    assert await bench.commands.call("EXISTS", "ps:seq:{alice}", "ps:seen:{alice}") == 0


@pytest.mark.gen_test
async def test_a_message_for_the_live_of_categories_goes_to_every_pod(bench: Bench) -> None:
    for name in ("pod-2", "pod-3"):
        await bench.pod(name)
    await bench.commands.call("ZADD", KEYS.pods, 1, "dead")
    assert await bench.publish(replace(TO_VIPS, offline=False)) == Published("m-1")
    for name in ("pod-2", "pod-3"):
        (push,) = await bench.told(name)
        assert isinstance(push, Push)
        assert (push.users, push.categories) == ([], {"vip": ("3", "4")})
    assert await bench.log() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("publication", [LIVE, replace(TO_VIPS, offline=False)])
async def test_what_was_handed_to_the_pods_is_not_handed_to_them_again(
    bench: Bench, publication: Publication
) -> None:
    await bench.pod("pod-2", "alice")
    await bench.publish(publication)
    again = await bench.publish(publication)
    assert again.duplicate
    assert len(await bench.told("pod-2")) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["feed_append", "message_sent"])
async def test_what_was_not_handed_to_all_pods_is_by_a_repeat(bench: Bench, step: str) -> None:
    """It may come twice to a pod: there is no promise for it but to try."""
    await bench.pod("pod-2", "alice")
    refuse(bench.commands, step, times=1)
    with pytest.raises(StoreUnavailableError):
        await bench.publish(LIVE)
    assert not (await bench.publish(LIVE)).duplicate
    assert len(await bench.told("pod-2")) == (1 if step == "feed_append" else 2)
    assert (await bench.publish(LIVE)).duplicate


@pytest.mark.gen_test
async def test_an_entry_for_the_live_names_so_many_users_and_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish_module, "PUSH_USERS", 3)
    users = [f"u-{number}" for number in range(7)]
    await bench.pod("pod-2", *users)
    answer = await bench.publish(replace(to_users(users, 1, "m-1"), offline=False))
    assert answer.online == 7
    told = [one.users for one in await bench.told("pod-2") if isinstance(one, Push)]
    assert told == [users[:3], users[3:6], users[6:]]


# -- ids


@pytest.mark.gen_test
async def test_new_ids_differ_and_sort_by_time(bench: Bench) -> None:
    bench.stores.clock.adjust(1_700_000_000_000)
    first = {bench.publisher.new_id() for _ in range(100)}
    bench.stores.clock.adjust(1_700_000_010_000)
    later = {bench.publisher.new_id() for _ in range(100)}
    assert len(first | later) == 200
    assert max(first) < min(later)
