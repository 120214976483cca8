"""Where messages are: noted by the scripts that move them, read for explaining and reconciling."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from pushserver.core.publication import Publication
from pushserver.stores.commands import Commands
from pushserver.stores.content import ContentStore
from pushserver.stores.inbox import Inbox
from pushserver.stores.keys import GONE_MAX, Keys
from pushserver.stores.whereabouts import SKEW_MS, Trace, UserTrace, Whereabouts
from tests.texts import to_users

CAP = 3
RECORD_S = 500
HELLO = to_users(["alice", "bob"], "hello", "m-1", 100)
HOSTILE = ["{alice}", "a%7Bb", "a:b:", "}{", "愛:麗絲", "%", "a b\u00a0c"]


@pytest.fixture
def contents(commands: Commands, keys: Keys) -> ContentStore:
    return ContentStore(commands, keys, record_s=RECORD_S)


@pytest.fixture
def inbox(commands: Commands, keys: Keys) -> Inbox:
    return Inbox(commands, keys, cap=CAP, ttl_s=1000, idempotency_s=60, record_s=RECORD_S)


@pytest.fixture
def whereabouts(commands: Commands, keys: Keys) -> Whereabouts:
    return Whereabouts(commands, keys)


async def append(inbox: Inbox, *ids: str, user: str = "alice") -> None:
    for one in ids:
        await inbox.append(user, one, 10)


async def states(whereabouts: Whereabouts, user: str = "alice") -> dict[str, str]:
    return {message_id: trace.state for message_id, trace in (await whereabouts.user(user)).of.items()}


async def now_ms(commands: Commands) -> int:
    return int((await commands.call("TIME"))[0]) * 1000


# -- the record of a message


@pytest.mark.gen_test
async def test_a_publish_leaves_its_kind_its_users_and_later_that_it_was_completed(
    contents: ContentStore, whereabouts: Whereabouts
) -> None:
    made = await contents.publish(HELLO, 600)
    record = await whereabouts.message("m-1")
    assert (record.kind, record.users, record.queued_at) == ("users", 2, made.queued_at)
    assert (record.accepted_at, record.has_content, record.is_known) == (None, True, True)
    assert record.expires_at is not None
    assert abs(record.expires_at - made.queued_at - 100_000) < 50
    await contents.accepted("m-1", 5)
    await contents.accepted("m-1", 6)
    assert (await whereabouts.message("m-1")).accepted_at == 5
    assert (await contents.publish(HELLO, 600)).accepted


@pytest.mark.parametrize(
    "publication, kind",
    [
        (Publication("m-1", "1", 9, categories={"vip": ("3",)}), "categories"),
        (Publication("m-1", "1", 9, categories={}), "everyone"),
        (Publication("m-1", "1", 9, users=("alice",), offline=False), "live"),
    ],
)
@pytest.mark.gen_test
async def test_other_kinds_are_told_apart(
    contents: ContentStore, whereabouts: Whereabouts, publication: Publication, kind: str
) -> None:
    await contents.publish(publication, 600)
    assert (await whereabouts.message("m-1")).kind == kind


@pytest.mark.gen_test
async def test_notes_make_no_record_where_there_is_none(
    contents: ContentStore, whereabouts: Whereabouts, commands: Commands, keys: Keys
) -> None:
    await contents.accepted("m-1", 5)
    await contents.erased(["m-1"])
    assert await commands.call("EXISTS", keys.publish("m-1")) == 0
    record = await whereabouts.message("m-1")
    assert (record.is_known, record.kind, record.has_content) == (False, None, False)


@pytest.mark.gen_test
async def test_a_content_of_another_program_is_known_and_has_no_kind(
    whereabouts: Whereabouts, commands: Commands, keys: Keys
) -> None:
    await commands.call("SET", keys.content("m-1"), "text")
    record = await whereabouts.message("m-1")
    assert (record.is_known, record.kind, record.has_content, record.expires_at) == (True, None, True, None)


@pytest.mark.gen_test
async def test_a_record_of_another_type_says_nothing(
    whereabouts: Whereabouts, commands: Commands, keys: Keys
) -> None:
    await commands.call("SET", keys.publish("m-1"), "x")
    assert not (await whereabouts.message("m-1")).is_known


@pytest.mark.gen_test
async def test_what_another_program_wrote_into_a_record_is_passed_over(
    contents: ContentStore, whereabouts: Whereabouts, commands: Commands, keys: Keys
) -> None:
    await contents.publish(HELLO, 60)
    wrong = ("kind", "\x1b", "users", "-1", "queued_at", "9" * 5000, "accepted_at", "soon")
    await commands.call("HSET", keys.publish("m-1"), *wrong)
    record = await whereabouts.message("m-1")
    assert (record.kind, record.users, record.queued_at, record.accepted_at) == (None, 0, None, None)


@pytest.mark.gen_test
async def test_a_record_outlives_its_message_and_stands_in_nobodys_way(
    contents: ContentStore, whereabouts: Whereabouts, commands: Commands, keys: Keys
) -> None:
    """The same id is another message's then, and there is nothing to recall."""
    await contents.publish(HELLO, 60)
    await contents.accepted("m-1", 5)
    assert 590 < await commands.call("TTL", keys.publish("m-1")) <= 600
    await commands.call("HSET", keys.publish("m-1"), "forget_at", await now_ms(commands) - 1)
    await commands.call("DEL", keys.content("m-1"))
    assert (await whereabouts.message("m-1")).accepted_at == 5
    assert not await contents.recall("m-1", 100)
    other = to_users(["carol"], "other", "m-1", 100)
    made = await contents.publish(other, 60)
    assert (made.new, made.accepted) == (True, False)
    record = await whereabouts.message("m-1")
    assert (record.users, record.accepted_at, record.queued_at) == (1, None, made.queued_at)


@pytest.mark.gen_test
async def test_a_repeat_keeps_a_record_for_as_long_again(
    contents: ContentStore, commands: Commands, keys: Keys
) -> None:
    await contents.publish(HELLO, 60)
    forget_at = await now_ms(commands) + 1000
    await commands.call("HSET", keys.publish("m-1"), "forget_at", forget_at)
    await contents.publish(HELLO, 60)
    assert int(await commands.call("HGET", keys.publish("m-1"), "forget_at")) > forget_at + 50_000


@pytest.mark.gen_test
async def test_a_recall_has_its_time_and_tells_what_still_waits_from_what_expired(
    contents: ContentStore, whereabouts: Whereabouts
) -> None:
    made = await contents.publish(HELLO, 600)
    waiting = Trace("waiting")
    assert (await whereabouts.message("m-1")).state_of(waiting) == "waiting"
    await contents.recall("m-1", 100)
    record = await whereabouts.message("m-1")
    assert record.recalled_at is not None
    assert record.recalled_at >= made.queued_at
    assert record.state_of(waiting) == "recalled"
    assert record.state_of(Trace("parked", made.queued_at)) == "parked"
    assert record.state_of(Trace("evicted", made.queued_at - SKEW_MS // 2)) == "evicted"
    assert record.state_of(Trace("evicted", made.queued_at - SKEW_MS - 1)) is None, "a former message's"
    assert record.state_of(None) is None


# -- what is known of a user's messages


@pytest.mark.gen_test
async def test_what_leaves_an_inbox_unseen_is_noted_with_the_reason(
    inbox: Inbox, whereabouts: Whereabouts, commands: Commands
) -> None:
    before = await now_ms(commands)
    await append(inbox, "1", "2", "3", "4")
    await inbox.drop_expired("alice", ["2", b"\xff garbage"])
    await inbox.drop_recalled("alice", ["3", "unknown"])
    assert await states(whereabouts) == {
        "1": "evicted",
        "2": "expired",
        "3": "recalled",
        "4": "waiting",
    }
    noted = [trace.at_ms for trace in (await whereabouts.user("alice")).of.values() if trace.at_ms]
    assert all(before <= at_ms <= before + 60_000 for at_ms in noted)
    page = await inbox.read("alice", 10)
    assert (page.missed.expired, page.missed.evicted) == (1, 1), "a recall is no miss"


@pytest.mark.gen_test
async def test_what_is_settled_leaves_no_note(
    inbox: Inbox, whereabouts: Whereabouts, commands: Commands, keys: Keys
) -> None:
    await append(inbox, "1", "2")
    await inbox.settle("alice", ["1"])
    assert await whereabouts.user("alice") == UserTrace({"2": Trace("waiting", None, 0)}, False)
    assert await commands.call("EXISTS", keys.gone("alice")) == 0
    assert await whereabouts.appended_at("alice", "1") is not None
    assert await whereabouts.appended_at("alice", "none") is None


@pytest.mark.gen_test
async def test_what_was_parked_and_put_back_waits(inbox: Inbox, whereabouts: Whereabouts) -> None:
    await append(inbox, "1", "2")
    for _ in range(3):
        await inbox.blame("alice", "1")
    trace = (await whereabouts.user("alice")).of["1"]
    assert trace.state == "parked"
    assert trace.at_ms is not None
    await inbox.put_back("alice", "1")
    assert (await whereabouts.user("alice")).of["1"] == Trace("waiting", None, 1)
    await inbox.settle("alice", ["1"])
    assert await states(whereabouts) == {"2": "waiting"}


@pytest.mark.gen_test
async def test_a_full_list_of_notes_stays_full_when_one_is_put_back(
    inbox: Inbox, whereabouts: Whereabouts, commands: Commands, keys: Keys
) -> None:
    await commands.call("RPUSH", keys.gone("alice"), *["expired 1 x"] * GONE_MAX)
    await append(inbox, "1")
    for _ in range(3):
        await inbox.blame("alice", "1")
    await inbox.put_back("alice", "1")
    known = await whereabouts.user("alice")
    assert (known.is_full, known.of["1"].state) == (True, "waiting")
    assert await inbox.erase("alice") == {"1", "x"}


@pytest.mark.gen_test
async def test_a_note_says_nothing_of_an_id_that_was_appended_anew(
    inbox: Inbox, whereabouts: Whereabouts, commands: Commands, keys: Keys
) -> None:
    """By a repeat of its publish, when the first was forgotten."""
    await append(inbox, "1", "2", "3", "4")
    assert (await states(whereabouts))["1"] == "evicted"
    await commands.call("ZREM", keys.seen("alice"), "1")
    noted_at = (await whereabouts.user("alice")).of["1"].at_ms or 0
    await commands.call("ZADD", keys.seen("alice"), noted_at + 1, "1")
    assert "1" not in await states(whereabouts)
    await commands.call("ZADD", keys.seen("alice"), noted_at, "1")
    assert (await states(whereabouts))["1"] == "evicted"


@pytest.mark.gen_test
async def test_the_latest_notes_are_kept_and_a_full_list_says_so(
    inbox: Inbox, whereabouts: Whereabouts, commands: Commands, keys: Keys
) -> None:
    await commands.call("RPUSH", keys.gone("alice"), *(f"expired 1 old-{n}" for n in range(GONE_MAX)))
    await append(inbox, "1", "2", "3", "4")
    await inbox.drop_expired("alice", ["2"])
    trace = await whereabouts.user("alice")
    assert trace.is_full
    assert (trace.of["1"].state, trace.of["2"].state) == ("evicted", "expired")
    assert "old-1" not in trace.of
    assert await commands.call("LLEN", keys.gone("alice")) == GONE_MAX
    assert await commands.call("TTL", keys.gone("alice")) > 30 * 86_400


@pytest.mark.gen_test
async def test_an_inbox_lives_as_long_as_the_records_of_what_waits_in_it(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    await append(inbox, "1")
    assert 1490 < await commands.call("TTL", keys.inbox("alice")) <= 1500
    await inbox.append("alice", "2", 2000)
    for key in (keys.inbox("alice"), keys.seq("alice")):
        assert 2490 < await commands.call("TTL", key) <= 2500
    await append(inbox, "3")
    assert await commands.call("TTL", keys.inbox("alice")) > 2400, "never shortened"


@pytest.mark.gen_test
async def test_an_inbox_that_lives_for_ever_gets_a_time_to_live(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    await commands.call("RPUSH", keys.inbox("alice"), "another-programs")
    await append(inbox, "1")
    assert await commands.call("TTL", keys.inbox("alice")) > 0


@pytest.mark.gen_test
async def test_erasing_a_user_tells_what_was_not_settled_and_leaves_no_key(
    inbox: Inbox, contents: ContentStore, whereabouts: Whereabouts, commands: Commands, keys: Keys
) -> None:
    await contents.publish(HELLO, 600)
    await append(inbox, "m-1", "2", "3", "4", "5")
    for _ in range(3):
        await inbox.blame("alice", "4")
    await commands.call("RPUSH", keys.inbox("alice"), "no message")
    unsettled = await inbox.erase("alice")
    assert unsettled == {"m-1", "2", "3", "4", "5"}
    assert await inbox.erase("alice") == set()
    await contents.erased(unsettled)
    assert (await whereabouts.message("m-1")).erased == 1
    assert await commands.call("EXISTS", keys.gone("alice"), keys.inbox("alice"), keys.parked("alice")) == 0


@pytest.mark.gen_test
async def test_lists_of_another_type_say_nothing_and_hinder_nobody(
    inbox: Inbox, whereabouts: Whereabouts, commands: Commands, keys: Keys
) -> None:
    await commands.call("SET", keys.gone("alice"), "x")
    await append(inbox, "1", "2", "3", "4")
    assert await inbox.drop_expired("alice", ["2"]) == 1
    for _ in range(3):
        await inbox.blame("alice", "3")
    assert await states(whereabouts) == {"3": "parked", "4": "waiting"}
    await inbox.erase("alice")
    assert await commands.call("EXISTS", keys.gone("alice")) == 0
    await commands.call("SET", keys.inbox("bob"), "x")
    await commands.call("SET", keys.seen("bob"), "x")
    assert await states(whereabouts, "bob") == {}
    assert await whereabouts.appended_at("bob", "1") is None


@pytest.mark.gen_test
async def test_notes_that_are_none_are_passed_over(
    whereabouts: Whereabouts, commands: Commands, keys: Keys
) -> None:
    entries: Sequence[Any] = ["", "lost 1 a", "expired x b", b"\xff", "expired 7 good", "expired"]
    entries = [*entries, f"expired {'9' * 5000} c"]
    await commands.call("RPUSH", keys.gone("alice"), *entries)
    assert await states(whereabouts) == {"good": "expired"}


# -- all of them


@pytest.mark.parametrize("prefix", ["ps:", "a*[b?]\\^-:"])
@pytest.mark.gen_test
async def test_every_message_and_every_user_is_found_on_every_node(commands: Commands, prefix: str) -> None:
    keys, foreign = Keys(prefix), Keys("aXb-:" if "*" in prefix else "other:")
    inboxes = [Inbox(commands, one, cap=9, ttl_s=99, idempotency_s=9) for one in (keys, foreign)]
    stores = [ContentStore(commands, one) for one in (keys, foreign)]
    for number, user in enumerate(HOSTILE):
        await stores[0].publish(to_users([user], number, f"m-{number}", 100), 600)
        await inboxes[0].append(user, f"m-{number}", 100)
    await stores[1].publish(to_users(["x"], 1, "foreign", 100), 600)
    await inboxes[1].append("x", "foreign", 100)
    await commands.call("RPUSH", f"{prefix}inbox:{{bad\x01}}", "1")
    await commands.call("HSET", f"{prefix}publish:{{{prefix}msg:a b}}", "digest", "1")
    whereabouts = Whereabouts(commands, keys)
    messages = {one.message_id async for page in whereabouts.messages() for one in page}
    assert messages == {f"m-{number}" for number in range(len(HOSTILE))}
    found = [(user, *trace.of) async for page in whereabouts.users() for user, trace in page]
    assert sorted(found) == sorted((user, f"m-{number}") for number, user in enumerate(HOSTILE))


@pytest.mark.gen_test
async def test_many_users_come_in_pages_each_once(commands: Commands, keys: Keys, inbox: Inbox) -> None:
    users = [f"user-{number}" for number in range(450)]
    await asyncio.gather(*(inbox.append(user, "m", 10) for user in users))
    await commands.call("RPUSH", keys.parked("user-7"), "p")
    pages = [page async for page in Whereabouts(commands, keys).users()]
    assert sorted(user for page in pages for user, _ in page) == sorted(users)
    assert all(len(page) <= 200 for page in pages)
    of = dict(cast(Any, [one for page in pages for one in page]))["user-7"].of
    assert {name: trace.state for name, trace in of.items()} == {"m": "waiting", "p": "parked"}
