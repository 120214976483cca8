from __future__ import annotations

import asyncio
import json

import pytest

from pushserver.stores.commands import Commands
from pushserver.stores.inbox import Inbox, Missed
from pushserver.stores.keys import Keys
from pushserver.stores.presence import FirstPage, PresenceStore, Seen
from tests.stores.looks import look

HOSTILE = ["{alice}", "a%7Bb", "a:b:", "}{", "愛:麗絲", "%", ":", "pod-1:pod-1"]


@pytest.fixture
def presence(commands: Commands, keys: Keys) -> PresenceStore:
    return PresenceStore(commands, keys, "pod-1")


@pytest.fixture
def inbox(commands: Commands, keys: Keys) -> Inbox:
    return Inbox(commands, keys, cap=5, ttl_s=1000, idempotency_s=60)


async def stored(commands: Commands, key: str) -> dict[bytes, object]:
    flat = await commands.call("HGETALL", key)
    return {field: json.loads(value) for field, value in zip(flat[::2], flat[1::2], strict=True)}


async def indexed(presence: PresenceStore, pod: str = "pod-1") -> set[str]:
    return {user async for users in presence.indexed(pod) for user in users}


# -- write


@pytest.mark.gen_test
async def test_presence_is_one_field_for_user_and_pod(
    presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    await presence.write(7, "alice", 1_700_000_000_000, 0)
    assert await stored(commands, keys.presence("alice")) == {
        b"alice:pod-1": {"boot": 7, "since": 1_700_000_000_000}
    }


@pytest.mark.gen_test
async def test_writing_again_keeps_the_time_of_the_first(
    presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    for since in (1000, 2000):
        assert (await presence.write(7, "alice", since, 0)).written
    assert await stored(commands, keys.presence("alice")) == {b"alice:pod-1": {"boot": 7, "since": 1000}}


@pytest.mark.gen_test
async def test_a_newer_boot_takes_the_field_over(
    presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    await presence.write(7, "alice", 1000, 0)
    assert (await presence.write(8, "alice", 2000, 0)).written
    assert await stored(commands, keys.presence("alice")) == {b"alice:pod-1": {"boot": 8, "since": 2000}}


@pytest.mark.gen_test
async def test_an_older_boot_does_not_touch_the_field_of_a_newer_one(
    presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    """Rule 21 of the model."""
    await presence.write(10, "alice", 1000, 0)
    assert not (await presence.write(9, "alice", 2000, 0)).written
    assert not await presence.remove(9, "alice")
    assert await stored(commands, keys.presence("alice")) == {b"alice:pod-1": {"boot": 10, "since": 1000}}


@pytest.mark.gen_test
async def test_other_pods_fields_are_not_touched(commands: Commands, keys: Keys) -> None:
    one, two = (PresenceStore(commands, keys, pod) for pod in ("pod-1", "pod-2"))
    await one.write(5, "alice", 1000, 0)
    await two.write(1, "alice", 2000, 0)
    assert await two.remove(1, "alice")
    assert await two.pods_of("alice") == {"pod-1": {"boot": 5, "since": 1000}}


# -- the page that comes with a write


@pytest.mark.gen_test
async def test_a_write_without_a_page_reads_nothing(presence: PresenceStore, inbox: Inbox) -> None:
    await inbox.append("alice", "1", 10)
    assert await presence.write(1, "alice", 1000, 0) == FirstPage(True, None, False)


@pytest.mark.gen_test
async def test_a_write_brings_the_inbox_as_it_stands_after_it(presence: PresenceStore, inbox: Inbox) -> None:
    for number in range(7):
        await inbox.append("alice", str(number), 10)
    await inbox.blame("alice", None)
    first = await presence.write(1, "alice", 1000, 3)
    assert first.page is not None
    assert (first.written, first.blamed) == (True, True)
    assert (first.page.ids, first.page.seq, first.page.size) == (["2", "3", "4"], 7, 3)
    assert first.page.missed == Missed(evicted=2)


@pytest.mark.gen_test
async def test_a_write_that_was_refused_still_brings_the_page(presence: PresenceStore, inbox: Inbox) -> None:
    await inbox.append("alice", "1", 10)
    await presence.write(2, "alice", 1000, 0)
    first = await presence.write(1, "alice", 1000, 3)
    assert first.page is not None
    assert (first.written, first.blamed, first.page.ids) == (False, False, ["1"])


@pytest.mark.gen_test
async def test_either_the_append_sees_the_presence_or_the_page_has_the_message(
    presence: PresenceStore, inbox: Inbox
) -> None:
    """Both orders in one: presence before the inbox is read, the inbox before presence is read."""

    async def publish_and_connect(user: str) -> None:
        appended, first = await asyncio.gather(inbox.append(user, "1", 10), presence.write(1, user, 1000, 3))
        assert first.page is not None
        assert appended.pods == {"pod-1": 1} or first.page.ids == ["1"]

    await asyncio.gather(*(publish_and_connect(f"user-{number}") for number in range(50)))


# -- remove


@pytest.mark.gen_test
async def test_removing_twice_is_once(presence: PresenceStore, commands: Commands, keys: Keys) -> None:
    await presence.write(7, "alice", 1000, 0)
    assert await presence.remove(7, "alice")
    assert await presence.remove(7, "alice")
    assert await commands.call("EXISTS", keys.presence("alice")) == 0


@pytest.mark.gen_test
async def test_what_an_older_boot_left_is_removed(presence: PresenceStore) -> None:
    await presence.write(7, "alice", 1000, 0)
    assert await presence.remove(8, "alice")
    assert await presence.pods_of("alice") == {}


@pytest.mark.gen_test
async def test_a_reaper_removes_another_pods_field_unless_that_pod_is_back(
    presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    """Rule 15 of the model."""
    other = PresenceStore(commands, keys, "pod-2")
    await other.write(1, "alice", 1000, 0)
    await other.write(3, "bob", 1000, 0)
    assert await presence.remove(1, "alice", "pod-2")
    assert not await presence.remove(1, "bob", "pod-2")
    assert (await presence.pods_of("alice"), await presence.pods_of("bob")) == (
        {},
        {"pod-2": {"boot": 3, "since": 1000}},
    )


# -- look


@pytest.mark.gen_test
async def test_a_look_tells_sequence_and_boot_of_one_moment(presence: PresenceStore, inbox: Inbox) -> None:
    assert await look(presence, "alice") == Seen(0, None)
    await inbox.append("alice", "1", 10)
    assert await look(presence, "alice") == Seen(1, None)
    await presence.write(7, "alice", 1000, 0)
    assert await look(presence, "alice") == Seen(1, 7)


@pytest.mark.gen_test
async def test_a_look_sees_this_pod_only(presence: PresenceStore, commands: Commands, keys: Keys) -> None:
    await PresenceStore(commands, keys, "pod-2").write(1, "alice", 1000, 0)
    assert await look(presence, "alice") == Seen(0, None)


# -- the index


@pytest.mark.gen_test
async def test_the_index_holds_users_until_their_own_boot_takes_them_out(
    presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    await commands.call("HSET", keys.pod("pod-1"), "boot", 7)
    await presence.index_add(7, ["alice", "bob"])
    await presence.index_add(7, ["alice"])
    assert await indexed(presence) == {"alice", "bob"}
    await presence.index_remove(7, ["alice"])
    await presence.index_remove(7, ["alice"])
    assert await indexed(presence) == {"bob"}


@pytest.mark.parametrize("held", [None, "8"])
@pytest.mark.gen_test
async def test_who_lost_the_name_takes_nobody_out_of_the_index(
    presence: PresenceStore, commands: Commands, keys: Keys, held: str | None
) -> None:
    """Rule 21 of the model: not under a newer boot, and not without a lease."""
    await presence.index_add(7, ["alice"])
    if held is not None:
        await commands.call("HSET", keys.pod("pod-1"), "boot", held)
    await presence.index_remove(7, ["alice"])
    assert await indexed(presence) == {"alice"}


@pytest.mark.gen_test
async def test_a_large_index_comes_in_pages_and_complete(presence: PresenceStore) -> None:
    users = {f"user-{number}" for number in range(3000)}
    ordered = sorted(users)
    await asyncio.gather(*(presence.index_add(1, ordered[at : at + 500]) for at in range(0, 3000, 500)))
    pages = [page async for page in presence.indexed("pod-1")]
    assert {user for page in pages for user in page} == users
    assert len(pages) > 1
    assert max(map(len, pages)) < 1500


@pytest.mark.gen_test
async def test_an_index_that_is_not_there_is_empty(presence: PresenceStore) -> None:
    assert [page async for page in presence.indexed("nobody")] == []


# -- names


@pytest.mark.gen_test
async def test_users_whose_names_look_like_keys_or_fields_are_kept_apart(
    presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    """`U:POD` splits at the last colon, for a pod name has none."""
    for boot, user in enumerate(HOSTILE, 1):
        await presence.index_add(boot, [user])
        await presence.write(boot, user, 1000, 0)
    for boot, user in enumerate(HOSTILE, 1):
        assert await stored(commands, keys.presence(user)) == {
            f"{user}:pod-1".encode(): {"boot": boot, "since": 1000}
        }
        assert await presence.pods_of(user) == {"pod-1": {"boot": boot, "since": 1000}}
    assert await indexed(presence) == set(HOSTILE)
    for boot, user in enumerate(HOSTILE, 1):
        await presence.remove(boot, user)
        assert await presence.pods_of(user) == {}
