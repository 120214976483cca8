"""Reaping the dead, and only them."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from pushserver.core.errors import StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.delivery.reaper import Reaper
from pushserver.parts import Stores
from pushserver.stores.keys import Keys
from pushserver.stores.lease import LeaseStore
from pushserver.stores.presence import PresenceStore
from tests.gate import hold, refuse
from tests.pod import eventually

LEASE_S = 100


class Bench:
    """`pod-1` reaps; other pods are what stands in Redis."""

    def __init__(self, stores: Stores, metrics: Metrics) -> None:
        self.stores = stores
        self.commands = stores.commands
        self._metrics = metrics
        self.fault_at: float | None = None
        """Monotonic second of Redis' last fault."""
        self.reaper = Reaper(
            stores.leases,
            stores.presence,
            stores.clock,
            metrics,
            lease_ms=LEASE_S * 1000,
            last_fault=lambda: self.fault_at,
        )
        # As if it had begun a lease ago.
        self.reaper._started -= LEASE_S

    async def pod(self, name: str, boot: int, *users: str, expired: bool = True) -> None:
        """A pod with its lease, its index and its presence."""
        keys = Keys("ps:")
        await LeaseStore(self.commands, keys, name, 60_000).take(boot, {"host": name})
        presence = PresenceStore(self.commands, keys, name)
        await presence.index_add(boot, ["index", *users])
        await asyncio.gather(*(presence.write(boot, user, 1, 0) for user in users))
        if expired:
            await self.commands.call("HSET", keys.pod(name), "expires", 1)
            await self.commands.call("ZADD", "ps:pods", 1, name)

    async def pods_of(self, user: str) -> set[str]:
        return set(await self.stores.presence.pods_of(user))

    async def keys_of(self, name: str) -> list[str]:
        keys = [key.decode() for key in await self.commands.call("KEYS", f"ps:*{{{name}}}")]
        placed = await self.commands.call("ZSCORE", "ps:pods", name)
        return [*sorted(keys), *(["ps:pods"] if placed is not None else [])]

    def counted(self, name: str) -> float:
        return self._metrics.registry.get_sample_value(f"pushserver_{name}") or 0.0


@pytest.fixture
def bench(stores: Stores, metrics: Metrics) -> Bench:
    return Bench(stores, metrics)


@pytest.mark.gen_test
async def test_a_dead_pod_leaves_nothing_behind(bench: Bench) -> None:
    users = [f"user-{number}" for number in range(1200)]
    await bench.pod("pod-2", 7, "alice", *users)
    await bench.commands.call("XADD", "ps:feed:{pod-2}", "*", "a", "b")
    with capture_logs() as lines:
        await bench.reaper.reap()
    assert await bench.pods_of("alice") == set()
    assert await bench.commands.call("KEYS", "ps:presence:*") == []
    assert await bench.keys_of("pod-2") == []
    assert bench.counted("pods_reaped_total") == 1
    assert [(line["event"], line["dead_pod"], line["dead_boot"]) for line in lines] == [
        ("pod.reaped", "pod-2", 7)
    ]


@pytest.mark.gen_test
async def test_whoever_is_alive_is_left_alone(bench: Bench) -> None:
    await bench.pod("pod-2", 7, "alice", expired=False)
    await bench.pod("pod-1", 8, "alice")
    await bench.reaper.reap()
    assert await bench.pods_of("alice") == {"pod-1", "pod-2"}
    assert bench.counted("pods_reaped_total") == 0


@pytest.mark.gen_test
async def test_who_only_seems_dead_is_left_alone(bench: Bench) -> None:
    """The index of pods is older than the lease."""
    await bench.pod("pod-2", 7, "alice", expired=False)
    await bench.commands.call("ZADD", "ps:pods", 1, "pod-2")
    await bench.reaper.reap()
    assert await bench.pods_of("alice") == {"pod-2"}
    assert await bench.commands.call("HGET", "ps:pod:{pod-2}", "claimed") is None
    assert await bench.commands.call("ZSCORE", "ps:pods", "pod-2") is not None


@pytest.mark.gen_test
async def test_presence_of_a_newer_boot_or_of_another_pod_stays(bench: Bench) -> None:
    await bench.pod("pod-2", 9, "alice")
    await bench.pod("pod-3", 5, "alice", expired=False)
    await bench.commands.call("HSET", "ps:pod:{pod-2}", "boot", 8)
    await bench.reaper.reap()
    assert await bench.pods_of("alice") == {"pod-2", "pod-3"}


@pytest.mark.gen_test
@pytest.mark.parametrize("expired", [False, True])
async def test_keys_of_a_boot_that_came_while_its_dead_one_was_reaped_stay(
    bench: Bench, expired: bool
) -> None:
    """Also when that boot has died meanwhile: its presence was not removed by this reaping."""
    await bench.pod("pod-2", 7, "alice")
    deletion = hold(bench.commands, "lease_reaped")
    reaping = asyncio.ensure_future(bench.reaper.reap())
    await deletion.reached.wait()
    await bench.pod("pod-2", 9, "alice", expired=expired)
    deletion.open()
    await reaping
    assert await bench.pods_of("alice") == {"pod-2"}
    assert await bench.commands.call("HEXISTS", "ps:pod-users:{pod-2}", "alice") == 1
    assert await bench.commands.call("HGET", "ps:pod:{pod-2}", "boot") == b"9"


@pytest.mark.gen_test
async def test_a_name_without_a_lease_loses_its_place_among_the_pods(bench: Bench) -> None:
    await bench.commands.call("ZADD", "ps:pods", 1, "pod-2")
    await bench.reaper.reap()
    assert await bench.keys_of("pod-2") == []


@pytest.mark.gen_test
async def test_what_one_reaper_began_another_completes(bench: Bench) -> None:
    await bench.pod("pod-2", 7, "alice", "bob")
    await bench.commands.call("HSET", "ps:pod:{pod-2}", "claimed", "pod-9")
    await bench.commands.call("HDEL", "ps:presence:{bob}", "bob:pod-2")
    await bench.reaper.reap()
    assert await bench.pods_of("alice") == set()
    assert await bench.keys_of("pod-2") == []


@pytest.mark.gen_test
async def test_several_reapers_at_once_do_no_harm(bench: Bench) -> None:
    await bench.pod("pod-2", 7, "alice")
    await asyncio.gather(*(bench.reaper.reap() for _ in range(5)))
    assert await bench.keys_of("pod-2") == []
    assert await bench.pods_of("alice") == set()


@pytest.mark.gen_test
async def test_nobody_is_reaped_before_redis_has_answered_for_one_lease(bench: Bench) -> None:
    """A Redis that hung makes every pod look dead."""
    await bench.pod("pod-2", 7, "alice")
    bench.fault_at = time.monotonic() - LEASE_S + 10
    await bench.reaper.reap()
    assert await bench.pods_of("alice") == {"pod-2"}
    bench.fault_at = time.monotonic() - LEASE_S
    await bench.reaper.reap()
    assert await bench.pods_of("alice") == set()


@pytest.mark.gen_test
async def test_a_process_that_has_just_begun_reaps_nobody(bench: Bench) -> None:
    await bench.pod("pod-2", 7, "alice")
    bench.reaper._started = time.monotonic()
    await bench.reaper.reap()
    assert await bench.pods_of("alice") == {"pod-2"}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "step", ["ZRANGEBYSCORE", "lease_claim", "HSCAN", "presence_remove", "lease_reaped", "pods_forget"]
)
async def test_what_is_interrupted_is_completed_the_next_time(bench: Bench, step: str) -> None:
    await bench.pod("pod-2", 7, "alice")
    refuse(bench.commands, step, times=1)
    with suppress(StoreUnavailableError):
        await bench.reaper.reap()
    assert "ps:pods" in await bench.keys_of("pod-2")
    await bench.reaper.reap()
    assert await bench.pods_of("alice") == set()
    assert await bench.keys_of("pod-2") == []


@pytest.mark.gen_test
async def test_the_dead_are_looked_for_more_often_than_long_leases_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pushserver.delivery.reaper.LOOK_S", 0.01)
    await bench.pod("pod-2", 7, "alice")
    running = asyncio.ensure_future(bench.reaper.run())

    async def reaped() -> bool:
        return await bench.keys_of("pod-2") == []

    await eventually(reaped)
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.gen_test
async def test_reaping_goes_on_until_cancelled_whatever_redis_does(bench: Bench) -> None:
    fault = refuse(bench.commands, "ZRANGEBYSCORE", times=1)
    bench.reaper._lease_s = 0.1
    with capture_logs() as lines:
        running = asyncio.ensure_future(bench.reaper.run())
        await eventually(lambda: fault.count)
        await bench.pod("pod-2", 7, "alice")

        async def reaped() -> bool:
            return await bench.keys_of("pod-2") == []

        await eventually(reaped)
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])
    assert [line["event"] for line in lines] == ["reaper.failed", "pod.reaped"]
