"""Presence is reconciled: whatever the order of events, Redis ends up with what the Manager says."""

from __future__ import annotations

import asyncio
import random
import time
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from pushserver.core.errors import StoreRefusedError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.delivery import presence
from pushserver.delivery.connection import Connection
from pushserver.delivery.manager import Manager
from pushserver.delivery.presence import MAX_BATCH, Presence
from pushserver.delivery.tasks import Tasks
from pushserver.parts import Stores
from pushserver.stores.presence import FirstPage
from tests.delivery.wire import connection
from tests.gate import hold, refuse
from tests.pod import eventually
from tests.stores.looks import look

PAGE = 10
REFUSED = StoreRefusedError("readonly", "a fault of the test")


class Bench:
    """Presence of `pod-1` under a boot, with a Manager to be changed by the test."""

    def __init__(self, stores: Stores, metrics: Metrics) -> None:
        self.stores = stores
        self.commands = stores.commands
        self._metrics = metrics
        self.manager = Manager()
        self.tasks = Tasks(metrics)
        self.presence = Presence(stores.presence, self.manager, stores.clock, metrics, self.tasks, page=PAGE)

    async def take(self, boot: int) -> None:
        """Hold the lease under this boot, and register."""
        await self.stores.leases.take(boot, {"host": "here"})
        indexed = [user async for users in self.stores.presence.indexed("pod-1") for user in users]
        self.presence.register_anew(boot, indexed)

    def come(self, user: str = "alice") -> Connection:
        """A connection opens, as `Sessions.open` does it, but for the flush."""
        one = connection(user)
        self.manager.add(one)
        return one

    def connect(self, user: str = "alice") -> tuple[Connection, asyncio.Task[FirstPage | None]]:
        """A connection opens and waits for its flush."""
        one = self.come(user)
        return one, asyncio.ensure_future(self.presence.flushed(user))

    def go(self, one: Connection) -> None:
        """The connection closes."""
        if self.manager.remove(one):
            self.presence.mark(one.user)

    async def at_rest(self) -> None:
        """Wait until all is written."""
        await eventually(lambda: self.presence.unflushed == 0)

    async def boot_of(self, user: str = "alice") -> int | None:
        """The boot in the presence field; None if there is none."""
        return (await look(self.stores.presence, user)).boot

    async def indexed(self) -> set[str]:
        return {user async for users in self.stores.presence.indexed("pod-1") for user in users}

    async def indexed_is(self, users: set[str]) -> bool:
        return await self.indexed() == users

    async def barrier(self) -> None:
        """Whatever could have been sent by now was sent and answered, unless it is held."""
        for _ in range(3):
            await self.commands.call("PING")

    def counted(self, name: str, **labels: str) -> float:
        return self._metrics.registry.get_sample_value(f"pushserver_{name}", labels) or 0.0


@pytest.fixture
def bench(stores: Stores, metrics: Metrics) -> Bench:
    return Bench(stores, metrics)


@pytest.fixture(autouse=True)
def _rests_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of a second; the test of the rests' length sets another."""
    monkeypatch.setattr(presence, "random", SimpleNamespace(uniform=lambda least, most: 0.01))


# -- coming and going


@pytest.mark.gen_test
async def test_whoever_is_connected_is_present_and_indexed(bench: Bench) -> None:
    await bench.take(1)
    _, flushed = bench.connect()
    page = await flushed
    assert page is not None
    assert page.written
    assert await bench.boot_of() == 1
    assert await bench.indexed() == {"alice"}
    assert bench.presence.unflushed == 0
    assert bench.counted("presence_writes_total", change="written") == 1


@pytest.mark.gen_test
async def test_whoever_has_gone_is_neither_present_nor_indexed(bench: Bench) -> None:
    await bench.take(1)
    one, flushed = bench.connect()
    await flushed
    bench.go(one)
    await bench.at_rest()
    assert await bench.boot_of() is None
    assert await bench.indexed() == set()
    assert bench.counted("presence_writes_total", change="removed") == 1


@pytest.mark.gen_test
async def test_a_user_with_another_connection_stays_present(bench: Bench) -> None:
    await bench.take(1)
    one, flushed = bench.connect()
    await flushed
    _, again = bench.connect()
    await again
    bench.go(one)
    await bench.at_rest()
    assert await bench.boot_of() == 1


@pytest.mark.gen_test
async def test_a_flush_answers_with_the_inbox_as_it_stands_right_after_the_write(bench: Bench) -> None:
    await bench.take(1)
    await bench.stores.inbox.append("alice", "m-1", 60)
    gate = hold(bench.commands, "presence_set")
    _, flushed = bench.connect()
    await gate.reached.wait()
    appended = await bench.stores.inbox.append("alice", "m-2", 60)
    assert appended.pods == {}
    gate.open()
    first = await flushed
    assert first is not None
    assert first.page is not None
    assert (first.page.ids, first.page.seq) == (["m-1", "m-2"], 2)
    assert (await bench.stores.inbox.append("alice", "m-3", 60)).pods == {"pod-1": 1}


@pytest.mark.gen_test
async def test_all_who_wait_for_a_user_are_resolved_by_one_flush(bench: Bench) -> None:
    await bench.take(1)
    flushes = [bench.connect()[1] for _ in range(5)]
    pages = await asyncio.gather(*flushes)
    assert all(page is pages[0] is not None for page in pages)
    assert bench.counted("presence_writes_total", change="written") == 1


@pytest.mark.gen_test
async def test_a_flush_that_nobody_waits_for_reads_no_inbox(bench: Bench) -> None:
    await bench.take(1)
    gate = hold(bench.commands, "presence_set", only=lambda arguments: arguments[-1] != 0)
    bench.come()
    bench.presence.mark("alice")
    await bench.at_rest()
    assert gate.count == 0
    assert await bench.boot_of() == 1


@pytest.mark.gen_test
async def test_whoever_had_gone_when_the_flush_looked_is_told_none(bench: Bench) -> None:
    await bench.take(1)
    one, flushed = bench.connect()
    bench.go(one)
    assert await flushed is None


@pytest.mark.gen_test
async def test_a_flush_resolves_only_those_who_waited_when_it_looked(bench: Bench) -> None:
    """A removal is under way when the user comes back: it is not for this removal to say so."""
    await bench.take(1)
    one, flushed = bench.connect()
    await flushed
    removal = hold(bench.commands, "presence_remove", answers=True)
    bench.go(one)
    await removal.reached.wait()
    _, back = bench.connect()
    await bench.barrier()
    assert not back.done()
    removal.open()
    page = await back
    assert page is not None
    assert page.written
    assert await bench.boot_of() == 1
    assert await bench.indexed() == {"alice"}


@pytest.mark.gen_test
async def test_who_waits_no_longer_disturbs_nobody(bench: Bench) -> None:
    await bench.take(1)
    gate = hold(bench.commands, "presence_set")
    (_, gives_up), (_, stays) = bench.connect(), bench.connect()
    await gate.reached.wait()
    gives_up.cancel()
    await asyncio.wait([gives_up])
    gate.open()
    assert await stays is not None


@pytest.mark.gen_test
async def test_nothing_is_written_before_there_is_a_lease(bench: Bench) -> None:
    _, flushed = bench.connect()
    await bench.barrier()
    assert not flushed.done()
    assert bench.presence.unflushed == 1
    await bench.take(7)
    assert await flushed is not None
    assert await bench.boot_of() == 7


@pytest.mark.gen_test(timeout=30)
async def test_a_storm_costs_few_round_trips(bench: Bench) -> None:
    await bench.take(1)
    waiting = [bench.connect(f"user-{number}")[1] for number in range(3 * MAX_BATCH)]
    trips = bench.counted("redis_round_trips_total")
    await asyncio.gather(*waiting)
    assert bench.counted("redis_round_trips_total") - trips < 30
    assert len(await bench.indexed()) == 3 * MAX_BATCH


# -- the order of the steps


@pytest.mark.gen_test
async def test_the_index_entry_is_answered_before_the_field_is_sent(bench: Bench) -> None:
    await bench.take(1)
    gate = hold(bench.commands, "index_add", answers=True)
    _, flushed = bench.connect()
    await gate.reached.wait()
    await bench.barrier()
    assert await bench.indexed() == {"alice"}
    assert await bench.boot_of() is None
    gate.open()
    await flushed
    assert await bench.boot_of() == 1


@pytest.mark.gen_test
async def test_the_field_is_removed_and_answered_before_the_index_entry(bench: Bench) -> None:
    await bench.take(1)
    one, flushed = bench.connect()
    await flushed
    gate = hold(bench.commands, "presence_remove", answers=True)
    bench.go(one)
    await gate.reached.wait()
    await bench.barrier()
    assert await bench.boot_of() is None
    assert await bench.indexed() == {"alice"}
    gate.open()
    await bench.at_rest()
    assert await bench.indexed() == set()


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["presence_remove", "index_remove"])
@pytest.mark.parametrize("answers", [False, True])
async def test_a_user_who_comes_back_during_a_removal_ends_up_present_and_indexed(
    bench: Bench, step: str, answers: bool
) -> None:
    await bench.take(1)
    one, flushed = bench.connect()
    await flushed
    gate = hold(bench.commands, step, answers=answers)
    bench.go(one)
    await gate.reached.wait()
    await bench.presence.announce("alice")
    _, back = bench.connect()
    await bench.barrier()
    gate.open()
    assert await back is not None
    await bench.at_rest()
    assert await bench.boot_of() == 1
    assert await bench.indexed() == {"alice"}


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["index_add", "presence_set"])
@pytest.mark.parametrize("answers", [False, True])
async def test_a_user_who_goes_during_a_write_ends_up_absent(bench: Bench, step: str, answers: bool) -> None:
    await bench.take(1)
    gate = hold(bench.commands, step, answers=answers)
    one, flushed = bench.connect()
    await gate.reached.wait()
    bench.go(one)
    await bench.barrier()
    gate.open()
    await flushed
    await bench.at_rest()
    assert await bench.boot_of() is None
    assert await bench.indexed() == set()


# -- faults


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["index_add", "presence_set"])
@pytest.mark.parametrize("answers", [False, True])
async def test_a_write_is_repeated_until_it_was_answered(bench: Bench, step: str, answers: bool) -> None:
    await bench.take(1)
    fault = refuse(bench.commands, step, times=2, answers=answers)
    _, flushed = bench.connect()
    page = await flushed
    assert fault.count == 2
    assert page is not None
    assert await bench.boot_of() == 1
    assert await bench.indexed() == {"alice"}


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["presence_remove", "index_remove"])
@pytest.mark.parametrize("answers", [False, True])
async def test_a_removal_is_repeated_until_it_was_answered(bench: Bench, step: str, answers: bool) -> None:
    await bench.take(1)
    one, flushed = bench.connect()
    await flushed
    fault = refuse(bench.commands, step, times=2, answers=answers)
    bench.go(one)
    await bench.at_rest()
    assert fault.count == 2
    assert await bench.boot_of() is None
    assert await bench.indexed() == set()


@pytest.mark.gen_test
async def test_whoever_goes_while_redis_is_away_is_told_at_the_next_try(bench: Bench) -> None:
    await bench.take(1)
    fault = refuse(bench.commands, "presence_set")
    one, flushed = bench.connect()
    await eventually(lambda: fault.count)
    bench.go(one)
    assert await flushed is None
    fault.end()
    await bench.at_rest()
    assert await bench.boot_of() is None


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["index_add", "presence_set", "presence_remove", "index_remove"])
async def test_a_redis_that_refuses_is_not_asked_in_a_tight_loop(
    bench: Bench, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several users that fail one after the other share their tries: less than 10 a second."""
    monkeypatch.setattr(presence, "random", SimpleNamespace(uniform=lambda least, most: least))
    await bench.take(1)
    removes = step.endswith("remove")
    here = [bench.come(f"user-{number}") for number in range(5)] if removes else []
    for one in here:
        bench.presence.mark(one.user)
    await bench.at_rest()
    fault = refuse(bench.commands, step, error=REFUSED)
    for number in range(5):
        if removes:
            bench.go(here[number])
        else:
            bench.come(f"user-{number}")
            bench.presence.mark(f"user-{number}")
        await eventually(lambda: fault.count > number)  # noqa: B023 - awaited in its turn
    began, met = time.monotonic(), fault.count
    each = 1 if step == "index_add" else 5
    await eventually(lambda: fault.count >= met + 4 * each)
    assert time.monotonic() - began > 3 * 0.1
    fault.end()
    await bench.at_rest()


@pytest.mark.gen_test
async def test_one_user_who_cannot_be_written_holds_nobody_up(bench: Bench) -> None:
    """His key is another program's list; who comes in the same flush does not notice."""
    await bench.take(1)
    await bench.commands.call("RPUSH", "ps:presence:{bob}", "not ours")
    (_, alice), (_, bob) = bench.connect("alice"), bench.connect("bob")
    assert await alice is not None
    assert await bench.boot_of("alice") == 1
    assert not bob.done()
    await bench.commands.call("DEL", "ps:presence:{bob}")
    assert await bob is not None
    assert await bench.boot_of("bob") == 1


@pytest.mark.gen_test
async def test_one_user_whose_slot_hangs_holds_nobody_up(bench: Bench) -> None:
    """Of those in the same flush, and of those who come later, go, or come back."""
    await bench.take(1)
    leaver, flushed = bench.connect("leaver")
    await flushed
    gates = [
        hold(bench.commands, "presence_set", only=lambda arguments: "bad" in str(arguments)),
        hold(bench.commands, "presence_remove", only=lambda arguments: "bad" in str(arguments)),
    ]
    bad = [bench.connect(f"bad-{number}")[1] for number in range(20)]
    bench.presence.mark("bad-gone")
    one, flushed = bench.connect("alice")
    bench.go(leaver)
    assert await flushed is not None
    await eventually(lambda: bench.presence.unflushed == 21)
    assert await bench.boot_of("leaver") is None
    assert await bench.indexed() >= {"alice"}
    bench.go(one)
    assert await bench.connect("alice")[1] is not None
    for number in range(20):
        bench.connect(f"bad-late-{number}")
        assert await bench.connect(f"late-{number}")[1] is not None
    assert not any(each.done() for each in bad)
    for gate in gates:
        gate.open()
    await asyncio.gather(*bad)
    await bench.at_rest()


@pytest.mark.gen_test
async def test_an_error_that_nobody_thought_of_is_told_and_holds_nobody_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.take(1)
    write, broken = bench.stores.presence.write, [True]

    async def breaks(boot: int, user: str, since_ms: int, page: int) -> FirstPage:
        if user == "bob" and broken:
            raise LookupError("what went wrong")
        return await write(boot, user, since_ms, page)

    monkeypatch.setattr(bench.stores.presence, "write", breaks)
    with capture_logs() as lines:
        (_, alice), (_, bob) = bench.connect("alice"), bench.connect("bob")
        assert await alice is not None
        await eventually(lambda: lines)
    assert (lines[0]["event"], lines[0]["user"]) == ("presence.broken", "bob")
    broken.clear()
    assert await bob is not None


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["index_add", "presence_set", "presence_remove", "index_remove"])
@pytest.mark.parametrize("how", ["hangs", "fails"])
async def test_a_pod_that_closes_ends_its_flushes_wherever_they_are(
    bench: Bench, step: str, how: str
) -> None:
    await bench.take(1)
    removes = step.endswith("remove")
    one = bench.come()
    if removes:
        bench.presence.mark("alice")
        await bench.at_rest()
    gate = hold(bench.commands, step)
    if how == "fails":
        gate.open()
        fault = refuse(bench.commands, step)
    waits = None
    if removes:
        bench.go(one)
    else:
        waits = bench.tasks.spawn(bench.presence.flushed("alice"), "serve")
    if how == "fails":
        await eventually(lambda: fault.count)
    else:
        await gate.reached.wait()
    async with asyncio.timeout(5):
        await bench.tasks.close()
    assert waits is None or waits.cancelled()
    assert len(bench.tasks) == 0
    gate.open()
    await bench.barrier()
    # One that was resting is asked for once more, and cancelled before its first step.
    await eventually(lambda: not (bench.presence._resting or bench.presence._due or len(bench.tasks)))


# -- announcing


@pytest.mark.gen_test
async def test_an_announced_user_costs_the_flush_one_round_trip_less(bench: Bench) -> None:
    await bench.take(1)
    await bench.presence.announce("alice")
    assert await bench.indexed() == {"alice"}
    assert await bench.boot_of() is None
    gate = hold(bench.commands, "index_add")
    assert await bench.connect()[1] is not None
    assert gate.count == 0
    await bench.presence.announce("alice")
    assert gate.count == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("answers", [False, True])
async def test_the_flush_of_an_announced_user_that_fails_rests_before_it_is_repeated(
    bench: Bench, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "random", SimpleNamespace(uniform=lambda least, most: least))
    await bench.take(1)
    await bench.presence.announce("alice")
    fault = refuse(bench.commands, "presence_set", times=2, answers=answers)
    began = time.monotonic()
    one, flushed = bench.connect()
    assert await flushed is not None
    assert fault.count == 2
    assert time.monotonic() - began > 2 * 0.1
    bench.go(one)
    await bench.at_rest()
    assert await bench.boot_of() is None


@pytest.mark.gen_test
async def test_who_goes_while_an_announced_users_flush_is_under_way_ends_up_absent(bench: Bench) -> None:
    await bench.take(1)
    await bench.presence.announce("alice")
    gate = hold(bench.commands, "presence_set")
    one, flushed = bench.connect()
    await gate.reached.wait()
    other, also_flushed = bench.connect()
    bench.go(one)
    bench.go(other)
    gate.open()
    await flushed
    assert await also_flushed is None
    await bench.at_rest()
    assert await bench.boot_of() is None
    assert await bench.indexed() == set()


@pytest.mark.gen_test
async def test_whoever_was_announced_and_did_not_come_is_taken_out_again(bench: Bench) -> None:
    await bench.take(1)
    await bench.presence.announce("alice")
    bench.presence.mark("alice")
    await bench.at_rest()
    assert await bench.indexed() == set()


@pytest.mark.gen_test
@pytest.mark.parametrize("answers", [False, True])
async def test_an_announcement_that_a_removal_overtakes_does_not_count(bench: Bench, answers: bool) -> None:
    """The entry of the announcement may have been taken out: the flush of the connect writes it anew."""
    await bench.take(1)
    one, flushed = bench.connect()
    await flushed
    bench.go(one)
    await bench.at_rest()
    gate = hold(bench.commands, "index_add", answers=answers)
    announcing = asyncio.ensure_future(bench.presence.announce("alice"))
    await gate.reached.wait()
    bench.presence.mark("alice")  # another handshake of the user came to nothing
    await bench.at_rest()
    if answers:
        assert await bench.indexed() == set()
    gate.open()
    await announcing
    assert await bench.connect()[1] is not None
    assert await bench.indexed() == {"alice"}
    assert bench.presence._announced == {}


@pytest.mark.gen_test
async def test_an_announcement_during_a_removal_is_left_to_the_flush(bench: Bench) -> None:
    await bench.take(1)
    one, flushed = bench.connect()
    await flushed
    gate = hold(bench.commands, "index_remove")
    bench.go(one)
    await gate.reached.wait()
    await bench.presence.announce("alice")
    gate.open()
    assert await bench.connect()[1] is not None
    assert await bench.indexed() == {"alice"}


@pytest.mark.gen_test
async def test_an_announcement_under_an_old_boot_does_not_count(bench: Bench) -> None:
    """The lease lapsed meanwhile, and a reaper has deleted the index."""
    await bench.take(1)
    gate = hold(bench.commands, "index_add", answers=True)
    announcing = asyncio.ensure_future(bench.presence.announce("alice"))
    await gate.reached.wait()
    await bench.commands.call("DEL", "ps:pod-users:{pod-1}")
    await bench.take(2)
    gate.open()
    await announcing
    assert await bench.connect()[1] is not None
    assert await bench.indexed() == {"alice"}


@pytest.mark.gen_test
async def test_of_two_announcements_at_once_either_may_fail(bench: Bench) -> None:
    await bench.take(1)
    refuse(bench.commands, "index_add", times=1)
    first, second = (asyncio.ensure_future(bench.presence.announce("alice")) for _ in range(2))
    with pytest.raises(StoreUnavailableError):
        await first
    await second
    assert bench.presence._announced == {}
    assert await bench.connect()[1] is not None
    assert await bench.indexed() == {"alice"}


@pytest.mark.gen_test
async def test_an_announcement_that_is_given_up_counts_for_nothing(bench: Bench) -> None:
    await bench.take(1)
    gate = hold(bench.commands, "index_add")
    announcing = asyncio.ensure_future(bench.presence.announce("alice"))
    await gate.reached.wait()
    announcing.cancel()
    await asyncio.wait([announcing])
    gate.open()
    assert bench.presence._announced == {}
    assert await bench.connect()[1] is not None
    assert await bench.indexed() == {"alice"}


@pytest.mark.gen_test
@pytest.mark.parametrize("give_up", ["cancel", "close"])
async def test_an_announcement_that_lands_behind_its_removal_is_taken_out_again(
    bench: Bench, give_up: str
) -> None:
    """A client lost during its handshake: the node of the index hung meanwhile, but not for the removal."""
    await bench.take(1)
    gate = hold(bench.commands, "index_add")
    if give_up == "cancel":
        announcing = asyncio.ensure_future(bench.presence.announce("alice"))
        await gate.reached.wait()
        announcing.cancel()
        await asyncio.wait([announcing])
    else:
        # As `at_once` does with those that it does not wait for at the moment.
        begun = bench.presence.announce("alice")
        begun.send(None)
        await gate.reached.wait()
        begun.close()
    bench.presence.mark("alice")
    await bench.at_rest()
    gate.open()
    await bench.barrier()
    await eventually(lambda: bench.indexed_is(set()))
    await bench.at_rest()


@pytest.mark.gen_test
@pytest.mark.parametrize("announced", [False, True])
async def test_an_index_entry_that_got_no_answer_is_removed_once_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    """It was on its way in a closed socket, and lands when the user is gone already."""
    monkeypatch.setattr(presence, "LATE_S", 0.3)
    await bench.take(1)
    refuse(bench.commands, "index_add", times=1)
    if announced:
        with pytest.raises(StoreUnavailableError):
            await bench.presence.announce("alice")
        bench.presence.mark("alice")
    else:
        one, flushing = bench.connect()
        await eventually(lambda: bench.presence._resting or bench.presence._indexed)
        bench.go(one)
        await flushing
    await bench.at_rest()
    await bench.stores.presence.index_add(1, ["alice"])
    await eventually(lambda: bench.indexed_is(set()))


@pytest.mark.gen_test
async def test_before_there_is_a_lease_nobody_is_announced(bench: Bench) -> None:
    await bench.presence.announce("alice")
    assert await bench.indexed() == set()


# -- boots


@pytest.mark.gen_test
async def test_a_new_boot_registers_everyone_who_is_here_and_removes_who_was(bench: Bench) -> None:
    await bench.take(1)
    for user in ("alice", "bob"):
        bench.come(user)
        bench.presence.mark(user)
    await bench.at_rest()
    other = Bench(bench.stores, bench._metrics)
    other.come("bob")
    await other.take(2)
    await other.at_rest()
    assert await bench.boot_of("alice") is None
    assert await bench.boot_of("bob") == 2
    assert await bench.indexed() == {"bob"}


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["index_add", "presence_set"])
async def test_a_flush_under_an_old_boot_is_followed_by_one_under_the_new(bench: Bench, step: str) -> None:
    """A reaper has deleted the index while the flush was under way."""
    await bench.take(1)
    gate = hold(bench.commands, step, answers=True)
    _, flushed = bench.connect()
    await gate.reached.wait()
    await bench.commands.call("DEL", "ps:pod-users:{pod-1}")
    await bench.take(2)
    gate.open()
    assert await flushed is not None
    await bench.at_rest()
    assert await bench.boot_of() == 2
    assert await bench.indexed() == {"alice"}


@pytest.mark.gen_test
async def test_a_field_of_a_newer_boot_is_not_touched_and_told(bench: Bench) -> None:
    await bench.take(1)
    one = bench.come()
    bench.presence.mark("alice")
    await bench.at_rest()
    newer = Bench(bench.stores, bench._metrics)
    newer.come()
    await newer.take(2)
    await newer.at_rest()
    taken_over: list[int] = []
    bench.presence.on_taken_over = lambda: taken_over.append(1)
    first = await bench.presence.flushed("alice")
    assert first is not None
    assert not first.written
    assert taken_over == [1]
    bench.go(one)
    await bench.at_rest()
    assert await bench.boot_of() == 2
    assert await bench.indexed() == {"alice"}


# -- all of it at once


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("seed", range(3))
async def test_after_any_coming_and_going_presence_is_exact(bench: Bench, seed: int) -> None:
    """Three users, faults of every step, and now and then a new boot after the keys were deleted."""
    chance, boot = random.Random(seed), 1
    await bench.take(boot)
    users = ["alice", "bob", "carol"]
    here: list[Connection] = []
    waiting: list[asyncio.Task[FirstPage | None]] = []
    for _ in range(300):
        act = chance.random()
        if act < 0.45:
            user = chance.choice(users)
            if chance.random() < 0.5:
                await asyncio.gather(bench.presence.announce(user), return_exceptions=True)
            one, flushed = bench.connect(user)
            here.append(one)
            waiting.append(flushed)
        elif act < 0.9 and here:
            bench.go(here.pop(chance.randrange(len(here))))
        elif act < 0.95:
            step = chance.choice(["index_add", "presence_set", "presence_remove", "index_remove"])
            refuse(bench.commands, step, times=1, answers=chance.random() < 0.5)
        else:
            boot += 1
            await bench.commands.call("DEL", "ps:pod-users:{pod-1}")
            await bench.take(boot)
        if chance.random() < 0.3:
            await bench.commands.call("PING")
    await bench.at_rest()
    # Who waited is told in the turn of the loop that follows.
    await eventually(lambda: all(flushed.done() for flushed in waiting))
    truth = set(bench.manager.users())
    assert {user for user in users if await bench.boot_of(user) == boot} == truth
    assert {user for user in users if await bench.boot_of(user) is not None} == truth
    assert await bench.indexed() == truth
    assert bench.presence._waiters == bench.presence._announced == {}
    assert bench.presence._indexed == truth


@pytest.mark.gen_test
async def test_a_write_that_may_still_land_keeps_its_index_entry_until_it_was_removed_once_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who writes without an answer, and then sees the user go, leaves a trace for whoever mends it."""
    monkeypatch.setattr(presence, "LATE_S", 0.5)
    await bench.take(1)
    fault = refuse(bench.commands, "presence_set")
    one, flushed = bench.connect()
    await eventually(lambda: fault.count)
    bench.go(one)
    assert await flushed is None
    again = hold(bench.commands, "presence_remove")
    fault.end()
    await bench.barrier()
    await bench.stores.presence.write(1, "alice", 0, 0)
    await eventually(again.reached.is_set)
    assert await bench.indexed() == {"alice"}
    again.open()
    await eventually(lambda: bench.indexed_is(set()))
    assert await bench.boot_of() is None
