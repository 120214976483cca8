"""The lease: held by heartbeats, taken anew under a larger boot, given up in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from pushserver.core.errors import StoreUnavailableError, TakenOverError
from pushserver.core.metrics import Metrics
from pushserver.delivery.lease import Lease
from pushserver.delivery.manager import Manager
from pushserver.delivery.presence import Presence
from pushserver.delivery.tasks import Tasks
from pushserver.parts import Stores
from pushserver.stores.lease import LeaseStore
from tests.delivery.wire import connection
from tests.gate import hold, refuse
from tests.pod import eventually
from tests.stores.looks import look

LEASE_MS = 1500
"""So long that a test run that is held up for a moment keeps it."""
KEY = "ps:pod:{pod-1}"


class Process:
    """What one process of the name `pod-1` has to do with its lease."""

    def __init__(
        self, stores: Stores, metrics: Metrics, *, host: str = "here", lease_ms: int = LEASE_MS
    ) -> None:
        self.commands = stores.commands
        self.clock = stores.clock
        self.stores = stores
        self._metrics = metrics
        self.manager = Manager()
        self.tasks = Tasks(metrics)
        self.presence = Presence(stores.presence, self.manager, stores.clock, metrics, self.tasks, page=10)
        self.lease = Lease(
            stores.leases,
            stores.presence,
            self.presence,
            stores.clock,
            metrics,
            pod="pod-1",
            lease_ms=lease_ms,
            about={"host": host, "address": "127.0.0.1:8000"},
        )
        self.new_boots = 0
        self.lease.on_new_boot = self._on_new_boot

    def _on_new_boot(self) -> None:
        self.new_boots += 1

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[asyncio.Task[None]]:
        """Heartbeats in the background."""
        task = asyncio.ensure_future(self.lease.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def come(self, user: str) -> None:
        self.manager.add(connection(user))
        await self.presence.flushed(user)

    async def field(self, name: str) -> str | None:
        value = await self.commands.call("HGET", KEY, name)
        return None if value is None else value.decode()

    async def renewed_beyond(self, ms: int) -> bool:
        return int(await self.field("expires") or 0) > ms

    async def boot_of(self, user: str) -> int | None:
        return (await look(self.stores.presence, user)).boot

    def counted(self, name: str) -> float:
        return self._metrics.registry.get_sample_value(f"pushserver_{name}") or 0.0


@pytest.fixture
def process(stores: Stores, metrics: Metrics) -> Process:
    return Process(stores, metrics)


@pytest.mark.gen_test
async def test_a_start_takes_the_name_under_the_next_boot_and_says_who_it_is(process: Process) -> None:
    await process.commands.call("SET", "ps:boots", 41)
    await process.lease.start()
    assert process.lease.boot == process.presence.boot == 42
    assert await process.field("boot") == "42"
    assert (await process.field("host"), await process.field("address")) == ("here", "127.0.0.1:8000")
    seconds, _ = await process.commands.call("TIME")
    left = int(await process.field("expires") or 0) - int(seconds) * 1000
    assert 0 < left <= LEASE_MS + 1000
    assert await process.commands.call("ZSCORE", "ps:pods", "pod-1") is not None
    assert process.counted("pod_boot") == 42
    assert process.new_boots == 0


@pytest.mark.gen_test
async def test_a_start_brings_this_process_to_redis_time(process: Process) -> None:
    process.clock.adjust(1000)
    await process.lease.start()
    seconds, _ = await process.commands.call("TIME")
    assert abs(process.clock.now_s() - int(seconds)) < 2


@pytest.mark.gen_test
async def test_heartbeats_keep_the_lease_and_the_boot(process: Process) -> None:
    await process.lease.start()
    first = await process.field("expires")
    async with process.beating():
        # Longer than it lasts by itself.
        await eventually(lambda: process.renewed_beyond(int(first or 0) + LEASE_MS))
        assert await process.field("boot") == "1"
    assert process.lease.boot == 1
    assert process.new_boots == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["expired", "claimed", "missing", "emptied", "an older boot's"])
async def test_a_lapsed_lease_is_taken_anew_under_a_new_boot_with_everyone_registered_anew(
    process: Process, how: str
) -> None:
    await process.lease.start()
    await process.come("alice")
    before = process.lease.boot
    if how == "expired":
        await process.commands.call("HSET", KEY, "expires", 1)
    elif how == "claimed":
        await process.commands.call("HSET", KEY, "claimed", "pod-2")
    elif how == "missing":
        await process.commands.call("DEL", KEY, "ps:pod-users:{pod-1}", "ps:presence:{alice}")
    elif how == "emptied":
        await process.commands.call("FLUSHALL")
    else:
        await process.commands.call("HSET", KEY, "boot", 0)
    with capture_logs() as lines:
        async with process.beating():
            await eventually(lambda: process.presence.boot > before and not process.presence.unflushed)
    assert [line["event"] for line in lines] == ["lease.lapsed", "lease.taken"]
    assert process.lease.boot == process.presence.boot > before
    assert await process.boot_of("alice") == process.lease.boot
    assert (process.counted("lease_lapses_total"), process.new_boots) == (1, 1)


@pytest.mark.gen_test
async def test_a_new_boot_reconciles_whoever_an_earlier_one_left(process: Process) -> None:
    await process.lease.start()
    await process.come("alice")
    again = Process(process.stores, process._metrics)
    await again.lease.start()
    await eventually(lambda: not again.presence.unflushed)
    assert await process.boot_of("alice") is None
    assert await process.commands.call("HLEN", "ps:pod-users:{pod-1}") == 0


@pytest.mark.gen_test
async def test_the_larger_boot_wins_at_once_and_the_smaller_one_learns_who_it_is(
    stores: Stores, metrics: Metrics
) -> None:
    old, new = Process(stores, metrics, host="old"), Process(stores, metrics, host="new-host")
    await old.lease.start()
    await new.lease.start()
    async with old.beating() as beating:
        with pytest.raises(TakenOverError, match="pod-1 taken over by new-host") as error:
            await asyncio.wait_for(asyncio.shield(beating), 5)
    assert (error.value.pod, error.value.host) == ("pod-1", "new-host")
    assert await new.field("boot") == "2"


@pytest.mark.gen_test
async def test_a_start_gives_way_to_a_process_that_was_quicker(stores: Stores, metrics: Metrics) -> None:
    slow, quick = Process(stores, metrics), Process(stores, metrics, host="quick")
    gate = hold(stores.commands, "lease_take", only=lambda arguments: arguments[1] == 1)
    starting = asyncio.ensure_future(slow.lease.start())
    await gate.reached.wait()
    await quick.lease.start()
    gate.open()
    with pytest.raises(TakenOverError, match="quick"):
        await starting
    assert await quick.field("boot") == "2"
    assert slow.presence.boot == 0


@pytest.mark.gen_test
async def test_a_larger_boot_that_is_dead_keeps_nobody_away(process: Process) -> None:
    """The counter of boots was lost, and a lease of the old count has run out."""
    await process.stores.commands.call("HSET", "ps:pod:{pod-1}", "boot", 9, "expires", 1, "host", "gone")
    await process.lease.start()
    assert process.lease.boot == 10


@pytest.mark.gen_test
async def test_a_suspicion_brings_the_next_heartbeat_forward(stores: Stores, metrics: Metrics) -> None:
    old = Process(stores, metrics, lease_ms=600_000)
    await old.lease.start()
    renewed = hold(stores.commands, "lease_renew", answers=True)
    async with old.beating() as beating:
        await renewed.reached.wait()
        await Process(stores, metrics).lease.start()
        renewed.open()
        old.lease.check_soon()
        async with asyncio.timeout(5):
            await asyncio.wait([beating])
    assert isinstance(beating.exception(), TakenOverError)


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["lease_renew", "pods_index"])
@pytest.mark.parametrize("answers", [False, True])
async def test_a_heartbeat_that_was_not_answered_is_repeated_and_changes_nothing(
    process: Process, step: str, answers: bool
) -> None:
    await process.lease.start()
    fault = refuse(process.commands, step, times=2, answers=answers)
    with capture_logs() as lines:
        async with process.beating():
            await eventually(lambda: fault.count == 2)
            await eventually(lambda: len(lines) == 2)
    assert [(line["event"], line["reason"]) for line in lines] == [("lease.heartbeat_failed", "timeout")] * 2
    assert await process.field("boot") == "1"


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["boot_take", "lease_take", "pods_index", "HSCAN"])
@pytest.mark.parametrize("answers", [False, True])
async def test_whatever_answer_is_lost_while_a_lapsed_lease_is_taken_the_pod_stays_and_all_are_registered(
    process: Process, step: str, answers: bool
) -> None:
    """An answer that is lost must neither look like another process nor leave anybody unregistered."""
    await process.lease.start()
    await process.come("alice")
    fault = refuse(process.commands, step, times=1, answers=answers)
    await process.commands.call("DEL", KEY, "ps:pod-users:{pod-1}", "ps:presence:{alice}")
    async with process.beating() as beating:
        await eventually(lambda: process.presence.boot > 1 and not process.presence.unflushed)
        assert not beating.done()
    assert fault.count == 1
    assert process.lease.boot == process.presence.boot
    assert await process.field("boot") == str(process.lease.boot)
    assert await process.boot_of("alice") == process.lease.boot
    assert process.new_boots == 1


@pytest.mark.gen_test
async def test_a_start_that_redis_does_not_answer_fails(process: Process) -> None:
    refuse(process.commands, "lease_take", times=1)
    with pytest.raises(StoreUnavailableError):
        await process.lease.start()
    assert process.presence.boot == 0


@pytest.mark.gen_test
async def test_a_released_lease_leaves_nothing(process: Process) -> None:
    await process.lease.start()
    assert await process.lease.release()
    assert await process.commands.call("KEYS", "ps:pod*") == []


@pytest.mark.gen_test
async def test_a_lease_of_a_newer_boot_is_not_released(stores: Stores, metrics: Metrics) -> None:
    old, new = Process(stores, metrics), Process(stores, metrics)
    await old.lease.start()
    await new.lease.start()
    await new.come("alice")
    assert not await old.lease.release()
    assert await new.field("boot") == "2"
    assert await stores.commands.call("HKEYS", "ps:pod-users:{pod-1}") == [b"alice"]


@pytest.mark.gen_test
async def test_a_lease_lasts_for_its_time(stores: Stores) -> None:
    store = LeaseStore(stores.commands, stores.leases._keys, "pod-1", 5000)
    answer = await store.take(1, {})
    assert int(await stores.commands.call("HGET", KEY, "expires")) == answer.now_ms + 5000
