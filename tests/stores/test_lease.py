from __future__ import annotations

import asyncio

import pytest

from pushserver.stores.commands import Commands
from pushserver.stores.keys import Keys
from pushserver.stores.lease import LeaseAnswer, LeaseStore
from pushserver.stores.stream import position_of

LEASE_MS = 60_000
ABOUT = {"host": "host-1", "address": "10.0.0.1:8000", "started": "1700000000", "version": "1.0"}


@pytest.fixture
def lease(commands: Commands, keys: Keys) -> LeaseStore:
    return LeaseStore(commands, keys, "pod-1", LEASE_MS)


@pytest.fixture
def reaper(commands: Commands, keys: Keys) -> LeaseStore:
    """Another pod."""
    return LeaseStore(commands, keys, "pod-2", LEASE_MS)


async def fields(commands: Commands, key: str) -> dict[str, str]:
    flat = await commands.call("HGETALL", key)
    return {field.decode(): value.decode() for field, value in zip(flat[::2], flat[1::2], strict=True)}


async def run_out(commands: Commands, keys: Keys, pod: str = "pod-1") -> None:
    """Let a lease run out now."""
    await commands.call("HSET", keys.pod(pod), "expires", 1)
    await commands.call("ZADD", keys.pods, 1, pod)


async def now_ms(commands: Commands) -> int:
    seconds, micros = await commands.call("TIME")
    return int(seconds) * 1000 + int(micros) // 1000


# -- boots


@pytest.mark.gen_test
async def test_every_boot_is_larger_than_those_before(lease: LeaseStore, reaper: LeaseStore) -> None:
    boots = [await lease.new_boot(0), await reaper.new_boot(0), await lease.new_boot(1)]
    assert boots == [1, 2, 3]


@pytest.mark.gen_test
async def test_concurrent_starts_get_boots_of_their_own(lease: LeaseStore) -> None:
    boots = await asyncio.gather(*(lease.new_boot(0) for _ in range(50)))
    assert sorted(boots) == list(range(1, 51))


@pytest.mark.gen_test
async def test_after_redis_was_emptied_a_boot_is_still_larger_than_the_last(
    lease: LeaseStore, reaper: LeaseStore, commands: Commands, keys: Keys
) -> None:
    for last in range(5):
        await lease.new_boot(last)
    await commands.call("DEL", keys.boots)
    assert await lease.new_boot(5) == 6
    assert await reaper.new_boot(0) == 7
    assert await lease.new_boot(6) == 8
    assert await lease.new_boot(9) == 10


# -- take


@pytest.mark.gen_test
async def test_taking_registers_the_pod_with_redis_time(
    lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    before = await now_ms(commands)
    answer = await lease.take(7, ABOUT)
    after = await now_ms(commands)
    assert answer.held
    assert before <= answer.now_ms <= after
    expires = str(answer.now_ms + LEASE_MS)
    assert await fields(commands, keys.pod("pod-1")) == {**ABOUT, "boot": "7", "expires": expires}
    assert await commands.call("ZRANGE", keys.pods, 0, -1, "WITHSCORES") == [b"pod-1", expires.encode()]


@pytest.mark.parametrize("boot", [7, 8])
@pytest.mark.gen_test
async def test_the_same_boot_or_a_larger_takes_over_at_once_and_leaves_nothing_of_the_old(
    lease: LeaseStore, commands: Commands, keys: Keys, boot: int
) -> None:
    await lease.take(7, {**ABOUT, "extra": "field"})
    await commands.call("HSET", keys.pod("pod-1"), "claimed", "pod-2")
    assert (await lease.take(boot, ABOUT)).held
    held = await fields(commands, keys.pod("pod-1"))
    assert held == {**ABOUT, "boot": str(boot), "expires": held["expires"]}
    assert (await lease.renew(boot)).held


@pytest.mark.gen_test
async def test_a_smaller_boot_does_not_take_and_is_told_who_has_the_name(
    lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await lease.take(10, ABOUT)
    before = await fields(commands, keys.pod("pod-1"))
    answer = await lease.take(9, {**ABOUT, "host": "host-2"})
    assert (answer.held, answer.newer_boot, answer.newer_host) == (False, 10, "host-1")
    assert await fields(commands, keys.pod("pod-1")) == before


# -- renew


@pytest.mark.gen_test
async def test_renewing_moves_the_expiry_in_lease_and_index(
    lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await lease.take(7, ABOUT)
    await commands.call("HINCRBY", keys.pod("pod-1"), "expires", -LEASE_MS // 2)
    answer = await lease.renew(7)
    assert answer.feed_first is None
    expires = str(answer.now_ms + LEASE_MS)
    assert answer == LeaseAnswer(True, answer.now_ms)
    assert await fields(commands, keys.pod("pod-1")) == {**ABOUT, "boot": "7", "expires": expires}
    assert await commands.call("ZSCORE", keys.pods, "pod-1") == expires.encode()


@pytest.mark.gen_test
async def test_a_lease_that_ran_out_is_never_renewed(
    lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await lease.take(7, ABOUT)
    await run_out(commands, keys)
    answer = await lease.renew(7)
    assert answer == LeaseAnswer(False, answer.now_ms)
    assert await commands.call("HGET", keys.pod("pod-1"), "expires") == b"1"


@pytest.mark.gen_test
async def test_a_lease_runs_out_to_the_millisecond_by_redis_time(
    lease: LeaseStore, reaper: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await lease.take(7, ABOUT)
    pod = keys.pod("pod-1")
    await commands.call("HSET", pod, "expires", await now_ms(commands) + 10_000)
    assert await reaper.claim("pod-1") == 0
    await reaper.forget("pod-1", 7)
    assert (await lease.renew(7)).held
    await commands.call("HSET", pod, "expires", await now_ms(commands))
    assert not (await lease.renew(7)).held
    assert await reaper.claim("pod-1") == 7
    await commands.call("HSET", pod, "expires", await now_ms(commands))
    await reaper.forget("pod-1", 7)
    assert await commands.call("EXISTS", pod) == 0


@pytest.mark.gen_test
async def test_a_lease_that_was_claimed_is_never_renewed(
    lease: LeaseStore, reaper: LeaseStore, commands: Commands, keys: Keys
) -> None:
    """Rule 16 of the model; not even if the clock of Redis went back and it looks valid again."""
    await lease.take(7, ABOUT)
    await run_out(commands, keys)
    assert await reaper.claim("pod-1") == 7
    await commands.call("HSET", keys.pod("pod-1"), "expires", await now_ms(commands) + LEASE_MS)
    assert not (await lease.renew(7)).held
    assert (await lease.take(8, ABOUT)).held
    assert (await lease.renew(8)).held


@pytest.mark.gen_test
async def test_a_lease_that_is_gone_or_of_an_older_boot_is_never_renewed(
    lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    assert not (await lease.renew(7)).held
    assert await commands.call("EXISTS", keys.pod("pod-1")) == 0
    await lease.take(6, ABOUT)
    answer = await lease.renew(7)
    assert (answer.held, answer.newer_boot) == (False, 0)


@pytest.mark.gen_test
async def test_who_renews_is_told_of_a_larger_boot(lease: LeaseStore, commands: Commands, keys: Keys) -> None:
    await lease.take(8, ABOUT)
    before = await fields(commands, keys.pod("pod-1"))
    answer = await lease.renew(7)
    assert answer == LeaseAnswer(False, answer.now_ms, 8, "host-1")
    assert await fields(commands, keys.pod("pod-1")) == before


@pytest.mark.gen_test
async def test_who_renews_is_told_where_the_feed_begins(
    lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    """Later than what was read of it: entries were trimmed unseen. None: there is no feed."""
    await lease.take(7, ABOUT)
    assert (await lease.renew(7)).feed_first is None
    first = await commands.call("XADD", keys.feed("pod-1"), "*", "boot", 7)
    second = await commands.call("XADD", keys.feed("pod-1"), "*", "kick", "{}")
    assert (await lease.renew(7)).feed_first == position_of(first)
    await commands.call("XTRIM", keys.feed("pod-1"), "MINID", second)
    assert (await lease.renew(7)).feed_first == position_of(second)
    await commands.call("XTRIM", keys.feed("pod-1"), "MAXLEN", 0)
    assert (await lease.renew(7)).feed_first is None
    await commands.call("DEL", keys.feed("pod-1"))
    assert (await lease.renew(7)).feed_first is None


@pytest.mark.gen_test
async def test_a_feed_of_another_type_is_none_and_keeps_no_lease_from_being_renewed(
    lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await lease.take(7, ABOUT)
    await commands.call("SET", keys.feed("pod-1"), "x")
    answer = await lease.renew(7)
    assert (answer.held, answer.feed_first) == (True, None)


# -- expired, claim, forget


@pytest.mark.gen_test
async def test_the_index_tells_all_pods_there_are_also_those_whose_lease_ran_out(
    lease: LeaseStore, reaper: LeaseStore, commands: Commands, keys: Keys
) -> None:
    assert await lease.pods() == []
    await lease.take(1, ABOUT)
    await reaper.take(2, ABOUT)
    await run_out(commands, keys, "pod-1")
    await commands.call("ZADD", keys.pods, 5, b"\xff", 6, "No Pod")
    assert sorted(await reaper.pods()) == ["pod-1", "pod-2"]
    await lease.release(1)
    assert await reaper.pods() == ["pod-2"]


@pytest.mark.gen_test
async def test_the_index_tells_whose_lease_has_run_out_the_asker_left_out(
    lease: LeaseStore, reaper: LeaseStore, commands: Commands, keys: Keys
) -> None:
    for store in (lease, reaper, LeaseStore(commands, keys, "pod-3", LEASE_MS)):
        await store.take(1, ABOUT)
    await run_out(commands, keys, "pod-1")
    await run_out(commands, keys, "pod-2")
    now = await now_ms(commands)
    assert await reaper.expired(now) == ["pod-1"]
    assert await lease.expired(now) == ["pod-2"]
    assert sorted(await lease.expired(now + 2 * LEASE_MS)) == ["pod-2", "pod-3"]


@pytest.mark.gen_test
async def test_a_valid_lease_cannot_be_claimed(lease: LeaseStore, reaper: LeaseStore) -> None:
    """The index may be behind; the lease counts."""
    await lease.take(7, ABOUT)
    assert await reaper.claim("pod-1") == 0
    assert (await lease.renew(7)).held


@pytest.mark.gen_test
async def test_a_lease_that_is_not_there_cannot_be_claimed(reaper: LeaseStore) -> None:
    assert await reaper.claim("pod-1") == -1


@pytest.mark.gen_test
async def test_a_claimed_lease_can_be_claimed_again(
    lease: LeaseStore, reaper: LeaseStore, commands: Commands, keys: Keys
) -> None:
    """The first reaper may have died before it was through."""
    await lease.take(7, ABOUT)
    await run_out(commands, keys)
    third = LeaseStore(commands, keys, "pod-3", LEASE_MS)
    assert [await reaper.claim("pod-1"), await third.claim("pod-1")] == [7, 7]
    assert await commands.call("HGET", keys.pod("pod-1"), "claimed") == b"pod-3"


async def leave_something(commands: Commands, keys: Keys) -> list[str]:
    """An index of users and a feed of pod-1; the keys of that pod."""
    await commands.call("HSET", keys.pod_users("pod-1"), "alice", 7)
    await commands.call("XADD", keys.feed("pod-1"), "*", "hint", "1")
    return [keys.pod("pod-1"), keys.pod_users("pod-1"), keys.feed("pod-1")]


async def existing(commands: Commands, names: list[str]) -> list[int]:
    return [await commands.call("EXISTS", name) for name in names]


@pytest.mark.gen_test
async def test_a_reaped_pod_leaves_no_key(
    lease: LeaseStore, reaper: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await lease.take(7, ABOUT)
    names = await leave_something(commands, keys)
    await run_out(commands, keys)
    boot = await reaper.claim("pod-1")
    for _ in range(2):
        await reaper.forget("pod-1", boot)
        assert await existing(commands, names) == [0, 0, 0]
        assert await commands.call("ZCARD", keys.pods) == 0


@pytest.mark.gen_test
async def test_a_pod_that_came_back_meanwhile_keeps_its_keys(
    lease: LeaseStore, reaper: LeaseStore, commands: Commands, keys: Keys
) -> None:
    """Rule 18 of the model."""
    await lease.take(7, ABOUT)
    names = await leave_something(commands, keys)
    await run_out(commands, keys)
    boot = await reaper.claim("pod-1")
    await lease.take(8, ABOUT)
    await reaper.forget("pod-1", boot)
    assert await existing(commands, names) == [1, 1, 1]
    assert (await lease.renew(8)).held
    assert await commands.call("ZCARD", keys.pods) == 1


@pytest.mark.gen_test
async def test_a_lease_that_is_valid_is_not_deleted_even_if_it_has_the_claimed_boot(
    lease: LeaseStore, reaper: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await lease.take(7, ABOUT)
    names = await leave_something(commands, keys)
    await reaper.forget("pod-1", 7)
    assert await existing(commands, names) == [1, 1, 1]


@pytest.mark.gen_test
async def test_a_name_without_a_lease_is_dropped_from_the_index_alone(
    reaper: LeaseStore, commands: Commands, keys: Keys
) -> None:
    names = await leave_something(commands, keys)
    await commands.call("ZADD", keys.pods, 1, "pod-1")
    await reaper.forget("pod-1", await reaper.claim("pod-1"))
    assert await commands.call("ZCARD", keys.pods) == 0
    assert await existing(commands, names) == [0, 1, 1]


# -- release


@pytest.mark.gen_test
async def test_a_pod_that_leaves_takes_everything_with_it(
    lease: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await lease.take(7, ABOUT)
    names = await leave_something(commands, keys)
    assert await lease.release(7)
    assert await existing(commands, names) == [0, 0, 0]
    assert await commands.call("ZCARD", keys.pods) == 0
    assert not await lease.release(7)


@pytest.mark.gen_test
async def test_who_was_taken_over_releases_nothing(lease: LeaseStore, commands: Commands, keys: Keys) -> None:
    await lease.take(8, ABOUT)
    names = await leave_something(commands, keys)
    assert not await lease.release(7)
    assert await existing(commands, names) == [1, 1, 1]
    assert await commands.call("ZCARD", keys.pods) == 1


@pytest.mark.gen_test
async def test_a_claimed_lease_can_still_be_released_by_its_own_boot(
    lease: LeaseStore, reaper: LeaseStore, commands: Commands, keys: Keys
) -> None:
    await lease.take(7, ABOUT)
    await run_out(commands, keys)
    await reaper.claim("pod-1")
    assert await lease.release(7)
    await reaper.forget("pod-1", 7)
    assert await commands.call("EXISTS", keys.pod("pod-1")) == 0


@pytest.mark.gen_test
async def test_a_host_that_is_no_text_can_be_named(lease: LeaseStore, commands: Commands, keys: Keys) -> None:
    await lease.take(8, ABOUT)
    await commands.call("HSET", keys.pod("pod-1"), "host", b"\xff\xfe")
    assert (await lease.renew(7)).newer_host == "\ufffd\ufffd"
    assert (await lease.take(7, ABOUT)).newer_host == "\ufffd\ufffd"


# -- what a lost counter or a return at the wrong moment would break


@pytest.mark.gen_test
async def test_a_pod_that_came_back_while_it_was_forgotten_stays_in_the_index(commands: Commands) -> None:
    keys = Keys("ps:")
    leases = LeaseStore(commands, keys, "pod-1", 60_000)
    await leases.take(await leases.new_boot(0), {"host": "h"})
    await LeaseStore(commands, keys, "pod-2", 1000).forget("pod-1", 99)
    assert await commands.call("ZSCORE", keys.pods, "pod-1") is not None


@pytest.mark.gen_test
async def test_a_larger_boot_that_is_dead_is_told_apart_from_one_that_lives(commands: Commands) -> None:
    keys = Keys("ps:")
    await commands.call("HSET", keys.pod("pod-1"), "boot", 9, "expires", 1, "host", "gone")
    answer = await LeaseStore(commands, keys, "pod-1", 60_000).take(1, {"host": "h"})
    assert (answer.held, answer.newer_boot, answer.newer_is_dead) == (False, 9, True)
    await LeaseStore(commands, keys, "pod-1", 60_000).take(10, {"host": "h"})
    answer = await LeaseStore(commands, keys, "pod-1", 60_000).take(1, {"host": "h"})
    assert (answer.held, answer.newer_boot, answer.newer_is_dead) == (False, 10, False)
