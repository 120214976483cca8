"""Keys that another program has written, or a human: their users are served as well as can be, all others
as ever, and nothing is raised but `StoreError`."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from pushserver.core.errors import IdReusedError, RecalledError, StoreError, StoreRefusedError
from pushserver.stores.commands import Commands
from pushserver.stores.content import ContentStore, PublishRecord
from pushserver.stores.cursor import CursorStore
from pushserver.stores.feed import FeedStore, Reach
from pushserver.stores.feed_entry import Kick
from pushserver.stores.inbox import Inbox, Missed
from pushserver.stores.keys import Keys
from pushserver.stores.lease import LeaseStore
from pushserver.stores.presence import PresenceStore, Seen
from pushserver.stores.stream import StreamReader
from tests.stores.looks import look
from tests.texts import store_text, to_users

RECORDS = [
    b"",
    b"\xff",
    b"{",
    b"[]",
    b"1",
    b"null",
    b'"7"',
    b"{}",
    b'{"boot":null}',
    b'{"boot":[9]}',
    b'{"boot":"x"}',
    b'{"boot":NaN,"since":1e999}',
]
ABOUT = {"host": "host-1"}


@pytest.fixture
def presence(commands: Commands, keys: Keys) -> PresenceStore:
    return PresenceStore(commands, keys, "pod-1")


@pytest.fixture
def inbox(commands: Commands, keys: Keys) -> Inbox:
    return Inbox(commands, keys, cap=5, ttl_s=1000, idempotency_s=60)


@pytest.fixture
def lease(commands: Commands, keys: Keys) -> LeaseStore:
    return LeaseStore(commands, keys, "pod-1", 60_000)


async def make_wrong_type(commands: Commands, key: str) -> None:
    """A key that has a type that nothing here has."""
    await commands.call("GEOADD", key, 1, 1, "x") if "seen" not in key else await commands.call(
        "SET", key, "x"
    )


# -- presence


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.gen_test
async def test_a_record_that_cannot_be_read_is_older_than_any(
    presence: PresenceStore, commands: Commands, keys: Keys, record: bytes
) -> None:
    field = "alice:pod-1"
    await commands.call("HSET", keys.presence("alice"), field, record)
    assert await look(presence, "alice") == Seen(0, 0)
    assert await presence.pods_of("alice") == {"pod-1": {}}
    assert (await presence.write(1, "alice", 1000, 10)).written
    assert await look(presence, "alice") == Seen(0, 1)
    await commands.call("HSET", keys.presence("alice"), field, record)
    assert await presence.remove(1, "alice")
    assert await presence.pods_of("alice") == {}


@pytest.mark.gen_test
async def test_fields_that_name_no_pod_are_left_out(
    presence: PresenceStore, inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    await presence.write(1, "alice", 1000, 0)
    await commands.call(
        "HSET", keys.presence("alice"), b"alice:\xff", "{}", "alice:{x}", "{}", "alice:", "{}"
    )
    assert set(await presence.pods_of("alice")) == {"pod-1"}
    assert (await inbox.append("alice", "1", 10)).pods == {"pod-1": 1}


@pytest.mark.gen_test
async def test_names_in_the_index_that_are_no_text_are_left_out(
    presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    await commands.call("HSET", keys.pod_users("pod-1"), b"\xff\xfe", "x", "alice", "y")
    assert [users async for users in presence.indexed("pod-1")] == [["alice"]]


@pytest.mark.gen_test
async def test_an_index_of_nothing_but_such_names_yields_nothing(
    presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    await commands.call("HSET", keys.pod_users("pod-1"), b"\xff\xfe", "x")
    assert [users async for users in presence.indexed("pod-1")] == []


@pytest.mark.gen_test
async def test_a_presence_of_another_type_refuses_its_user_and_nobody_else(
    presence: PresenceStore, inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    await make_wrong_type(commands, keys.presence("alice"))
    alice, bob = await asyncio.gather(
        presence.write(1, "alice", 1000, 10), presence.write(1, "bob", 1000, 10), return_exceptions=True
    )
    assert isinstance(alice, StoreRefusedError)
    assert not isinstance(bob, BaseException)
    assert bob.written
    assert (await inbox.append("alice", "1", 10)).pods == {}
    assert (await inbox.read("alice", 10)).ids == ["1"]


@pytest.mark.gen_test
async def test_a_presence_of_another_type_does_not_keep_a_reaper_from_its_work(
    presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    await make_wrong_type(commands, keys.presence("alice"))
    assert await presence.remove(1, "alice")


# -- the inbox


@pytest.mark.gen_test
async def test_entries_that_are_no_ids_are_told_apart_and_can_be_removed(
    inbox: Inbox, presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    foreign = [b"\xff\xfe", b"", b"no id", b"x" * 65, "愛".encode()]
    await commands.call("RPUSH", keys.inbox("alice"), "1", *foreign, "2")
    page = await inbox.read("alice", 100)
    assert (page.ids, page.garbage, page.size) == (["1", "2"], foreign, 7)
    assert (await presence.write(1, "alice", 1000, 100)).page == page
    assert await inbox.drop_expired("alice", page.garbage) == 5
    assert (await inbox.read("alice", 100)).garbage == []


@pytest.mark.parametrize("value", ["x", "", "0x", "nan?", "99999999999999999999999"])
@pytest.mark.gen_test
async def test_a_sequence_that_is_no_number_refuses_appends_before_anything_is_written(
    inbox: Inbox, presence: PresenceStore, commands: Commands, keys: Keys, value: str
) -> None:
    await commands.call("SET", keys.seq("alice"), value)
    assert (await inbox.read("alice", 10)).ids == []
    assert (await look(presence, "alice")).boot is None
    assert (await presence.write(1, "alice", 1000, 10)).written
    with pytest.raises(StoreRefusedError):
        await inbox.append("alice", "1", 10)
    assert await commands.call("EXISTS", keys.inbox("alice")) == 0
    assert await commands.call("EXISTS", keys.seen("alice")) == 0


@pytest.mark.gen_test
async def test_counts_of_missed_that_are_no_numbers_count_as_none(
    inbox: Inbox, presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    await commands.call("HSET", keys.missed("alice"), "expired", "x", "evicted", "2")
    assert (await inbox.read("alice", 10)).missed == Missed(evicted=2)
    page = (await presence.write(1, "alice", 1000, 10)).page
    assert page is not None
    assert page.missed == Missed(evicted=2)


@pytest.mark.gen_test
async def test_an_inbox_of_another_type_holds_nothing_to_remove(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    """A settle that fails for ever would hold a worker for ever."""
    await make_wrong_type(commands, keys.inbox("alice"))
    assert await inbox.settle("alice", ["1"]) == 0
    assert await inbox.drop_expired("alice", ["1"]) == 0


@pytest.mark.parametrize("kind", ["inbox", "seq", "seen"])
@pytest.mark.gen_test
async def test_an_append_that_meets_another_type_writes_nothing(
    inbox: Inbox, commands: Commands, keys: Keys, kind: str
) -> None:
    await make_wrong_type(commands, getattr(keys, kind)("alice"))
    with pytest.raises(StoreRefusedError):
        await inbox.append("alice", "1", 10)
    others = {"inbox", "seq", "seen"} - {kind}
    assert [await commands.call("EXISTS", getattr(keys, other)("alice")) for other in others] == [0, 0]


@pytest.mark.parametrize(
    "kind", ["presence", "inbox", "seq", "seen", "missed", "parked", "blame", "categories", "cursor"]
)
@pytest.mark.gen_test
async def test_a_key_of_another_type_raises_nothing_but_store_errors_and_harms_no_other_user(
    inbox: Inbox, presence: PresenceStore, commands: Commands, keys: Keys, kind: str
) -> None:
    cursors = CursorStore(commands, keys)
    await make_wrong_type(commands, getattr(keys, kind)("alice"))
    for user in ("alice", "bob"):
        steps = await asyncio.gather(
            inbox.append(user, "1", 10),
            inbox.read(user, 10),
            presence.write(1, user, 1000, 10),
            presence.look([user]),
            presence.pods_of(user),
            inbox.blame(user, None),
            inbox.blame(user, "1"),
            inbox.blame(user, "1"),
            inbox.told(user, Missed(parked=1)),
            inbox.drop_expired(user, ["1"]),
            inbox.settle(user, ["1"]),
            inbox.waiting(user),
            inbox.absolve(user),
            inbox.put_back(user, "1"),
            cursors.start(user, 5),
            cursors.move([(user, 6, True)]),
            presence.remove(1, user),
            return_exceptions=True,
        )
        answers = [one for step in steps for one in (step if isinstance(step, list) else [step])]
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        assert all(isinstance(failure, StoreError) for failure in failures)
        assert user == "alice" or failures == []


@pytest.mark.parametrize("kind", ["inbox", "seq", "parked"])
@pytest.mark.gen_test
async def test_a_parked_message_that_cannot_be_put_back_stays_parked(
    inbox: Inbox, commands: Commands, keys: Keys, kind: str
) -> None:
    await commands.call("RPUSH", keys.parked("alice"), "1")
    await commands.call("DEL", getattr(keys, kind)("alice"))
    await make_wrong_type(commands, getattr(keys, kind)("alice"))
    with pytest.raises(StoreRefusedError):
        await inbox.put_back("alice", "1")
    if kind != "parked":
        assert await inbox.parked("alice") == ["1"]


# -- the cursor


@pytest.mark.parametrize("held", [b"", b"x", b"\xff", b"5", b"-", b"5-", b"1-2-3", None])
@pytest.mark.gen_test
async def test_what_is_no_cursor_is_a_place_that_the_caller_names_and_is_written_over(
    commands: Commands, keys: Keys, held: bytes | None
) -> None:
    cursors, key = CursorStore(commands, keys), keys.cursor("alice")
    if held is None:
        await make_wrong_type(commands, key)
    else:
        await commands.call("SET", key, held)
    assert await cursors.start("alice", 5) == 5
    assert await cursors.move([("alice", 7, True)]) == [None]
    assert await cursors.start("alice", 5) == 7


@pytest.mark.gen_test
async def test_a_cursor_of_another_type_moves_on_at_once(commands: Commands, keys: Keys) -> None:
    """Were it an error, the cursors would be written over and over, and a drain would never end."""
    cursors = CursorStore(commands, keys)
    await make_wrong_type(commands, keys.cursor("alice"))
    assert await cursors.move([("alice", 7, False)]) == [None]
    assert await cursors.move([("alice", 7, True)]) == [None]
    assert await cursors.start("alice", 5) == 7


# -- contents and publishes


@pytest.mark.gen_test
async def test_a_content_of_another_type_is_one_that_nobody_can_read(commands: Commands, keys: Keys) -> None:
    """Were it an error, its user's catch-up would try again for ever, and never get past it."""
    await make_wrong_type(commands, keys.content("m-1"))
    stored = await ContentStore(commands, keys).read("m-1")
    assert stored is not None
    assert stored.text == b""


@pytest.mark.gen_test
async def test_a_record_of_another_type_does_not_keep_a_content_from_being_gone(
    commands: Commands, keys: Keys
) -> None:
    """Were it an error, its user's catch-up would never get past it."""
    contents = ContentStore(commands, keys)
    await make_wrong_type(commands, keys.publish("m-1"))
    assert await contents.read("m-1") is None
    await store_text(contents, "m-1", "text", 100)
    stored = await contents.read("m-1")
    assert stored is not None
    assert stored.text == b"text"


@pytest.mark.gen_test
async def test_a_record_of_another_type_refuses_a_publish_and_a_recall_before_anything_is_done(
    commands: Commands, keys: Keys
) -> None:
    contents = ContentStore(commands, keys)
    await make_wrong_type(commands, keys.publish("m-1"))
    with pytest.raises(StoreRefusedError):
        await contents.publish(to_users(["alice"], 1, "m-1"), 60)
    assert await commands.call("EXISTS", keys.content("m-1")) == 0
    await store_text(contents, "m-1", "text", 100)
    with pytest.raises(StoreRefusedError):
        await contents.recall("m-1", 60)
    assert await contents.read("m-1") is not None


@pytest.mark.gen_test
async def test_a_content_of_another_type_is_another_programs_and_can_be_recalled(
    commands: Commands, keys: Keys
) -> None:
    contents = ContentStore(commands, keys)
    await make_wrong_type(commands, keys.content("m-1"))
    with pytest.raises(IdReusedError):
        await contents.publish(to_users(["alice"], 1, "m-1"), 60)
    assert await contents.recall("m-1", 60)
    with pytest.raises(RecalledError):
        await contents.read("m-1")


@pytest.mark.parametrize("queued_at", [b"x", b"", None])
@pytest.mark.gen_test
async def test_a_record_without_its_time_is_a_record(
    commands: Commands, keys: Keys, queued_at: bytes | None
) -> None:
    contents, hello = ContentStore(commands, keys), to_users(["alice"], 1, "m-1")
    fields = [b"digest", hello.digest, *(() if queued_at is None else (b"queued_at", queued_at))]
    await commands.call("HSET", keys.publish("m-1"), *fields)
    assert await contents.publish(hello, 60) == PublishRecord(False, False, 0)


# -- feeds


@pytest.mark.gen_test
async def test_a_feed_of_another_type_is_refused_and_made_anew_by_its_pod(
    lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    feeds = FeedStore(commands, keys, cast(StreamReader, None), "pod-1")
    await lease.take(7, ABOUT)
    await make_wrong_type(commands, keys.feed("pod-1"))
    with pytest.raises(StoreRefusedError):
        await feeds.append("pod-1", Kick("alice"))
    assert (await lease.renew(7)).feed_first is None
    assert await feeds.open(7) is not None
    assert await feeds.append("pod-1", Kick("alice")) is Reach.TAKEN


@pytest.mark.parametrize("fields", [["host", "x"], ["boot", "x", "expires", "y"]])
@pytest.mark.gen_test
async def test_what_is_no_lease_is_nobodys(commands: Commands, keys: Keys, fields: list[str]) -> None:
    feeds = FeedStore(commands, keys, cast(StreamReader, None), "pod-1")
    await commands.call("HSET", keys.pod("pod-1"), *fields)
    assert await feeds.append("pod-1", Kick("alice")) is Reach.DEAD
    assert await feeds.open(7) is None


# -- leases


@pytest.mark.gen_test
async def test_names_in_the_index_of_pods_that_are_none_are_removed(
    lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    """The index is read a hundred at a time: they would stand before the dead pods for ever."""
    foreign = [item for number in range(100) for item in (0, b"\xff%d" % number)]
    await commands.call("ZADD", keys.pods, *foreign, 1, "x:pod-2", 1, "{pod-2}", 2, "pod-2")
    assert await lease.expired(1000) == []
    assert await lease.expired(1000) == ["pod-2"]
    assert await commands.call("ZRANGE", keys.pods, 0, -1) == [b"pod-2"]


@pytest.mark.parametrize(
    "fields", [["host", "x"], ["boot", "x"], ["boot", "x", "expires", "y"], ["expires", "1"]]
)
@pytest.mark.gen_test
async def test_what_is_no_lease_can_be_forgotten_and_taken(
    lease: LeaseStore, commands: Commands, keys: Keys, fields: list[str]
) -> None:
    await commands.call("HSET", keys.pod("pod-1"), *fields)
    await commands.call("ZADD", keys.pods, 1, "pod-1")
    other = LeaseStore(commands, keys, "pod-2", 60_000)
    assert await other.claim("pod-1") == -1
    await other.forget("pod-1", -1)
    assert await other.expired(1000) == []
    assert not (await lease.renew(7)).held
    assert (await lease.take(8, ABOUT)).held
    assert (await lease.renew(8)).held


@pytest.mark.parametrize("fields", [["boot", "7"], ["boot", "7", "expires", "x"]])
@pytest.mark.gen_test
async def test_a_lease_without_an_expiry_has_run_out(
    lease: LeaseStore, commands: Commands, keys: Keys, fields: list[str]
) -> None:
    await commands.call("HSET", keys.pod("pod-1"), *fields)
    assert not (await lease.renew(7)).held
    other = LeaseStore(commands, keys, "pod-2", 60_000)
    assert await other.claim("pod-1") == 7
    await other.forget("pod-1", 7)
    assert await commands.call("EXISTS", keys.pod("pod-1")) == 0


@pytest.mark.gen_test
async def test_a_lease_of_another_type_does_not_stop_a_reaper(
    lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await make_wrong_type(commands, keys.pod("pod-2"))
    await commands.call("ZADD", keys.pods, 1, "pod-2")
    assert await lease.claim("pod-2") == -1
    await lease.forget("pod-2", -1)
    assert await lease.expired(1000) == []


@pytest.mark.gen_test
async def test_a_boot_counter_that_is_no_number_refuses_the_start(
    lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await commands.call("SET", keys.boots, "x")
    with pytest.raises(StoreRefusedError):
        await lease.new_boot(0)
