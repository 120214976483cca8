"""Settle: exposure first, then the removal, each until it was answered; nobody held up by another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from pushserver.core.errors import (
    SinkRefusedError,
    SinkUnavailableError,
    StoreRefusedError,
    StoreUnavailableError,
)
from pushserver.core.metrics import Metrics
from pushserver.delivery import settle
from pushserver.delivery.connection import Connection
from pushserver.delivery.sent import LIVE_ONLY
from pushserver.delivery.settle import MAX_BATCH, MAX_WORKERS, Settler
from pushserver.delivery.tasks import Tasks
from pushserver.exposure.event import Event, Proof
from pushserver.parts import Stores
from pushserver.stores.inbox import Inbox
from tests.callbacks import short_callbacks
from tests.cpu_time import measured_again
from tests.delivery.wire import Wire, connection, message
from tests.gate import hold, refuse
from tests.pod import eventually

SINK_AWAY = SinkUnavailableError("away", "a fault of the test")


class Sink:
    """Takes events, unless it is `closed` to them or has `errors` to raise first."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.batches: list[Sequence[Event]] = []
        self.errors: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()
        self.calls = 0

    async def accept(self, events: Sequence[Event]) -> None:
        self.calls += 1
        await self.open.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.events += events
        self.batches.append(events)

    async def called(self, times: int) -> None:
        """Wait for so many calls in all."""
        await eventually(lambda: self.calls == times)

    @property
    def shown(self) -> list[tuple[str, str, str]]:
        """(message, user, connection) of every exposure."""
        return [
            (event["message_id"], one["username"], one["connection"])
            for event in (json.loads(event.data) for event in self.events)
            for one in event["exposures"]
        ]


class Bench:
    """A settler on a real inbox."""

    def __init__(self, stores: Stores, metrics: Metrics) -> None:
        self.stores = stores
        self._metrics = metrics
        self.sink = Sink()
        self.tasks = Tasks(metrics)
        self.settler = Settler(self.sink, stores.inbox, stores.clock, metrics, self.tasks, pod="pod-1")

    async def pushed(
        self, user: str, *ids: str, connection_id: str = "c-1", append: bool = True
    ) -> Connection:
        """A connection on which these messages of the user's inbox were pushed."""
        one = connection(user, connection_id=connection_id)
        if append:
            for message_id in ids:
                await self.stores.inbox.append(user, message_id, 60)
        one.push([message(message_id) for message_id in ids], "offline", self.stores.clock.now_ms(), 0.0)
        return one

    def confirm(self, one: Connection, proof: Proof = "pong") -> None:
        """All that is unconfirmed on the connection is confirmed."""
        one.ping(1.0)
        assert isinstance(one.transport, Wire)
        answer = one.pong(one.transport.pings[-1], 1.0)
        assert answer is not None
        self.settler.confirmed(one, answer[0], proof)

    async def inbox(self, user: str = "alice") -> list[str]:
        return (await self.stores.inbox.read(user, 10_000)).ids

    async def drained(self) -> None:
        async with asyncio.timeout(20):
            await self.settler.drained()

    def counted(self, name: str, **labels: str) -> float:
        return self._metrics.registry.get_sample_value(f"pushserver_{name}", labels) or 0.0


@pytest.fixture
def bench(stores: Stores, metrics: Metrics) -> Bench:
    return Bench(stores, metrics)


@pytest.fixture(autouse=True)
def _pauses_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth; the test of the pauses' length sets another."""
    monkeypatch.setattr(settle, "_jittered", lambda seconds: seconds / 20)


@pytest.mark.gen_test
async def test_a_confirmed_message_is_exposed_and_leaves_the_inbox(bench: Bench) -> None:
    one = await bench.pushed("alice", "m-1", "m-2")
    bench.confirm(one)
    assert bench.settler.waiting == 2
    await bench.drained()
    assert bench.sink.shown == [("m-1", "alice", "c-1"), ("m-2", "alice", "c-1")]
    assert await bench.inbox() == []
    assert one.ledger.sent == {}
    assert bench.settler.waiting == 0
    assert bench.counted("settled_total") == 2
    assert bench.counted("confirms_total", proof="pong") == 2
    assert bench.counted("confirm_delay_seconds_count") == 2


@pytest.mark.gen_test
async def test_an_exposure_tells_when_it_was_pushed_when_confirmed_and_by_what(bench: Bench) -> None:
    before = bench.stores.clock.now_ms()
    one = await bench.pushed("alice", "m-1")
    bench.confirm(one, "ack")
    await bench.drained()
    (event,) = (json.loads(event.data) for event in bench.sink.events)
    (shown,) = event["exposures"]
    assert (event["pod"], event["source"], event["queued_at"]) == ("pod-1", "offline", 1_700_000_000_000)
    assert before <= shown["pushed_at"] <= shown["confirmed_at"] <= bench.stores.clock.now_ms()
    assert (shown["proof"], shown["client_ip"]) == ("ack", "203.0.113.9")


@pytest.mark.gen_test
async def test_nothing_leaves_the_inbox_before_its_exposure_was_accepted(bench: Bench) -> None:
    removal = hold(bench.stores.commands, "inbox_remove")
    bench.sink.open.clear()
    bench.confirm(await bench.pushed("alice", "m-1"))
    await eventually(lambda: bench.sink.calls)
    await bench.stores.commands.call("PING")
    assert removal.count == 0
    bench.sink.open.set()
    await removal.reached.wait()
    assert bench.sink.shown == [("m-1", "alice", "c-1")]
    removal.open()
    await bench.drained()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "error", [SINK_AWAY, SinkRefusedError("topic", ""), StoreUnavailableError("away", "")]
)
async def test_while_the_sink_fails_nothing_is_lost_and_nothing_is_settled(
    bench: Bench, error: Exception
) -> None:
    bench.sink.errors = [error] * 1000
    one = await bench.pushed("alice", "m-1")
    bench.confirm(one)
    await eventually(lambda: bench.sink.calls >= 2)
    assert await bench.inbox() == ["m-1"]
    assert list(one.ledger.sent) == ["m-1"]
    bench.sink.errors.clear()
    await bench.drained()
    assert bench.sink.calls >= 3
    assert bench.sink.shown == [("m-1", "alice", "c-1")]
    assert await bench.inbox() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("error", [StoreUnavailableError("timeout", ""), StoreRefusedError("readonly", "")])
async def test_a_removal_is_repeated_until_it_was_answered_and_its_exposure_is_not(
    bench: Bench, answers: bool, error: StoreUnavailableError
) -> None:
    fault = refuse(bench.stores.commands, "inbox_remove", times=2, answers=answers, error=error)
    one = await bench.pushed("alice", "m-1", "m-2")
    bench.confirm(one)
    await eventually(lambda: fault.count == 1)
    assert set(one.ledger.sent) == {"m-1", "m-2"}
    assert bench.settler.waiting == 2
    await bench.drained()
    assert await bench.inbox() == []
    assert one.ledger.sent == {}
    assert bench.sink.shown == [("m-1", "alice", "c-1"), ("m-2", "alice", "c-1")]
    assert bench.sink.calls == 1


@pytest.mark.gen_test
async def test_a_removal_that_is_refused_is_tried_a_few_times_a_second_and_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many users at once are one try."""
    monkeypatch.setattr(settle, "_jittered", lambda seconds: seconds / 2)
    fault = refuse(bench.stores.commands, "inbox_remove")
    for number in range(5):
        bench.confirm(await bench.pushed(f"user-{number}", "m-1"))
        await eventually(lambda: fault.count > number)  # noqa: B023 - awaited in its turn
    began, met = asyncio.get_running_loop().time(), fault.count
    await eventually(lambda: fault.count >= met + 2 * 5)
    assert asyncio.get_running_loop().time() - began > 0.25
    fault.end()
    await bench.drained()


@pytest.mark.gen_test
async def test_one_user_whose_removal_fails_holds_nobody_elses_up(bench: Bench) -> None:
    """More of them than there are workers, and each in a batch of its own."""
    bad = refuse(bench.stores.commands, "inbox_remove", only=lambda args: b"bad" in _bytes(args[0]))
    for number in range(MAX_WORKERS + 2):
        bench.confirm(await bench.pushed(f"bad-{number}", "m-1"))
        await eventually(lambda: bad.count > number)  # noqa: B023 - awaited in its turn
    one = await bench.pushed("alice", "m-1")
    bench.confirm(one)
    await eventually(lambda: one.ledger.sent == {})
    assert await bench.inbox() == []
    bad.end()
    await bench.drained()


@pytest.mark.gen_test
async def test_one_user_whose_removal_hangs_holds_nobody_elses_up(bench: Bench) -> None:
    """As when the node of his slot does not answer; others of the same batch are settled meanwhile."""
    hanging = hold(bench.stores.commands, "inbox_remove", only=lambda args: b"bad" in _bytes(args[0]))
    for number in range(MAX_WORKERS + 2):
        good = await bench.pushed(f"good-{number}", "m-1")
        bench.confirm(await bench.pushed(f"bad-{number}", "m-1"))
        bench.confirm(good)
        await eventually(lambda: good.ledger.sent == {})  # noqa: B023 - awaited in its turn
        assert hanging.count == number + 1
    hanging.open()
    await bench.drained()


def _bytes(argument: object) -> bytes:
    return argument if isinstance(argument, bytes) else str(argument).encode()


@pytest.mark.gen_test
async def test_two_connections_of_a_user_that_confirm_the_same_message_are_both_exposed(bench: Bench) -> None:
    first = await bench.pushed("alice", "m-1", connection_id="c-1")
    second = await bench.pushed("alice", "m-1", connection_id="c-2", append=False)
    bench.confirm(first)
    bench.confirm(second)
    await bench.drained()
    assert bench.sink.shown == [("m-1", "alice", "c-1"), ("m-1", "alice", "c-2")]
    assert await bench.inbox() == []
    assert first.ledger.sent == second.ledger.sent == {}
    assert bench.counted("settled_total") == 1


@pytest.mark.gen_test
async def test_a_message_that_another_connection_settled_is_still_exposed_here(bench: Bench) -> None:
    first = await bench.pushed("alice", "m-1", connection_id="c-1")
    second = await bench.pushed("alice", "m-1", connection_id="c-2", append=False)
    bench.confirm(first)
    await bench.drained()
    assert list(second.ledger.sent) == ["m-1"]
    bench.confirm(second)
    await bench.drained()
    assert len(bench.sink.shown) == 2
    assert second.ledger.sent == {}


@pytest.mark.gen_test
async def test_a_message_that_its_connection_did_not_live_to_see_settled_is_settled(bench: Bench) -> None:
    one = await bench.pushed("alice", "m-1")
    bench.confirm(one)
    one.closed()
    await bench.drained()
    assert await bench.inbox() == []


@pytest.mark.gen_test
async def test_what_is_confirmed_in_one_turn_of_the_loop_shares_a_batch(bench: Bench) -> None:
    many = [await bench.pushed(f"user-{number}", "m-1") for number in range(50)]
    trips = bench.counted("redis_round_trips_total")
    for one in many:
        bench.confirm(one)
    await bench.drained()
    assert bench.sink.calls == 1
    assert len(bench.sink.events) == 1
    assert bench.counted("redis_round_trips_total") - trips <= 2  # the script is taught once
    assert all(one.ledger.sent == {} for one in many)


@pytest.mark.gen_test(timeout=30)
async def test_no_more_than_four_batches_are_handed_over_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "MAX_BATCH", 1000)
    bench.sink.open.clear()
    one = await bench.pushed("alice")
    some = [message(f"m-{number}") for number in range(256)]
    total = (MAX_WORKERS + 1) * 1000
    for _ in range(0, total, 250):
        one.push(some[:250], "live", 0, 0.0)
        bench.confirm(one)
        one.settled(list(one.ledger.sent))
    await eventually(lambda: bench.sink.calls == MAX_WORKERS)
    await bench.stores.commands.call("PING")
    assert bench.sink.calls == MAX_WORKERS
    assert bench.settler.waiting == total
    bench.sink.open.set()
    await bench.drained()
    assert len(bench.sink.shown) == total


@pytest.mark.gen_test
async def test_an_id_that_was_confirmed_while_a_page_is_read_is_remembered_until_it_arrived(
    bench: Bench,
) -> None:
    one = await bench.pushed("alice", "m-1")
    one.read_begins()
    bench.confirm(one)
    await bench.drained()
    assert one.read_arrived(["m-1"]) == []
    assert one.ledger.sent == {}


@pytest.mark.gen_test
async def test_drained_waits_also_for_what_rests(bench: Bench) -> None:
    fault = refuse(bench.stores.commands, "inbox_remove")
    bench.confirm(await bench.pushed("alice", "m-1"))
    waits = asyncio.ensure_future(bench.settler.drained())
    await eventually(lambda: bench.settler._resting)
    await bench.stores.commands.call("PING")
    assert not waits.done()
    fault.end()
    await waits
    assert await bench.inbox() == []


@pytest.mark.gen_test
async def test_an_error_that_nobody_thought_of_is_seen_and_the_rest_goes_on(bench: Bench) -> None:
    bench.sink.errors = [LookupError("what went wrong")]
    with capture_logs() as lines:
        bench.confirm(await bench.pushed("alice", "m-1"))
        await bench.drained()
        await eventually(lambda: lines)
    assert [line["event"] for line in lines] == ["task.failed"]
    assert await bench.inbox() == ["m-1"]
    bench.confirm(await bench.pushed("bob", "m-2"))
    await bench.drained()
    assert await bench.inbox("bob") == []


@pytest.mark.gen_test
@pytest.mark.parametrize("stuck_at", ["sink", "pause", "removal", "rest"])
async def test_a_pod_that_closes_ends_its_settling_wherever_it_is(bench: Bench, stuck_at: str) -> None:
    """More waits than the workers have in hand. What is not settled stays in the inbox."""
    if stuck_at == "sink":
        bench.sink.open.clear()
    if stuck_at == "pause":
        bench.sink.errors = [SINK_AWAY] * 1000
    gate = hold(bench.stores.commands, "inbox_remove")
    if stuck_at != "removal":
        gate.open()
    if stuck_at == "rest":
        refuse(bench.stores.commands, "inbox_remove")
    for number in range(MAX_WORKERS + 2):
        bench.confirm(await bench.pushed("alice", f"m-{number}"))
    await eventually(lambda: bench.sink.calls)
    if stuck_at == "removal":
        await gate.reached.wait()
    if stuck_at == "rest":
        await eventually(lambda: bench.settler._resting)
    async with asyncio.timeout(5):
        await bench.tasks.close()
    gate.open()
    # What was resting may be asked for once more, and is cancelled before its first step.
    await eventually(lambda: len(bench.tasks) == 0)
    if stuck_at != "removal":
        assert len(await bench.inbox()) == MAX_WORKERS + 2


# -- what is in no inbox


@pytest.mark.parametrize("position", [LIVE_ONLY, 7])
@pytest.mark.gen_test
async def test_what_is_in_no_inbox_is_settled_by_its_exposure_and_not_before(
    bench: Bench, position: int
) -> None:
    """Its cursor moves then; and nothing is removed from anywhere."""
    settled: list[Connection] = []
    bench.settler._on_log_settled = settled.append
    removal = hold(bench.stores.commands, "inbox_remove")
    one = connection("alice")
    one.push_log([(position, message("m-1"))], "live", bench.stores.clock.now_ms(), 0.0)
    bench.sink.open.clear()
    bench.confirm(one)
    await eventually(lambda: bench.sink.calls)
    assert (list(one.ledger.sent), settled) == (["m-1"], [])
    bench.sink.open.set()
    await bench.drained()
    assert bench.sink.shown == [("m-1", "alice", "c-1")]
    assert (one.ledger.sent, settled, removal.count) == ({}, [one], 0)
    assert bench.counted("log_settled_total") == 1
    removal.open()


@pytest.mark.gen_test
async def test_a_sink_that_is_away_moves_no_cursor_and_a_removal_that_fails_holds_none_back(
    bench: Bench,
) -> None:
    settled: list[Connection] = []
    bench.settler._on_log_settled = settled.append
    refuse(bench.stores.commands, "inbox_remove", times=2)
    bench.sink.errors = [SINK_AWAY] * 2
    one = await bench.pushed("alice", "inbox-1")
    one.push_log([(7, message("m-1"))], "live", bench.stores.clock.now_ms(), 0.0)
    bench.confirm(one)
    await eventually(lambda: settled)
    assert (bench.sink.calls, list(one.ledger.sent)) == (3, ["inbox-1"])
    await bench.drained()
    assert (one.ledger.sent, settled) == ({}, [one])
    assert await bench.inbox() == []


# -- what can wait for others


@pytest.fixture
def _gathers_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "GATHER_S", 3600)


def confirm_from_log(bench: Bench, user: str, count: int = 1) -> None:
    one = connection(user)
    entries = [(place, message(f"m-{place}")) for place in range(1, count + 1)]
    assert one.push_log(entries, "live", bench.stores.clock.now_ms(), 0.0) == count
    bench.confirm(one)


@pytest.mark.gen_test
async def test_what_came_from_the_log_waits_a_little_for_that_of_others(bench: Bench) -> None:
    for user in ("alice", "bob"):
        confirm_from_log(bench, user)
        # They come in different turns of the loop.
        await asyncio.sleep(0)
    assert (bench.sink.calls, bench.settler.waiting) == (0, 2)
    await bench.drained()
    assert bench.sink.calls == 1
    assert bench.sink.shown == [("m-1", "alice", "c-1"), ("m-1", "bob", "c-1")]


@pytest.mark.usefixtures("_gathers_for_long")
@pytest.mark.gen_test
async def test_what_was_caught_up_does_not_wait(bench: Bench) -> None:
    """Who catches up may have to wait for it with more."""
    one = connection("alice")
    one.push_log([(7, message("m-7"))], "log", bench.stores.clock.now_ms(), 0.0)
    bench.confirm(one)
    await bench.drained()
    assert one.ledger.sent == {}


@pytest.mark.usefixtures("_gathers_for_long")
@pytest.mark.gen_test
async def test_what_came_from_an_inbox_takes_along_what_waits(bench: Bench) -> None:
    confirm_from_log(bench, "bob")
    bench.confirm(await bench.pushed("alice", "a-1"))
    await bench.drained()
    assert bench.sink.calls == 1


@pytest.mark.usefixtures("_gathers_for_long")
@pytest.mark.gen_test
async def test_as_many_as_fill_a_batch_do_not_wait(bench: Bench) -> None:
    for number in range(MAX_BATCH // 100):
        confirm_from_log(bench, f"user-{number}", 100)
    await bench.drained()
    assert bench.counted("log_settled_total") == MAX_BATCH


@measured_again
@pytest.mark.parametrize("source", ["log", "inbox"])
@pytest.mark.gen_test(timeout=60)
async def test_what_thousands_confirm_at_once_holds_the_loop_no_longer(bench: Bench, source: str) -> None:
    for number in range(5000):
        if source == "log":
            confirm_from_log(bench, f"user-{number}")
        else:
            one = connection(f"user-{number}")
            one.push([message("m-1")], "live", 0, 0.0)
            bench.confirm(one)
    with short_callbacks():
        await bench.drained()
    sizes = [sum(event.count for event in batch) for batch in bench.sink.batches]
    assert sum(sizes) == 5000
    assert max(sizes) <= 2000


@pytest.mark.usefixtures("_gathers_for_long")
@pytest.mark.gen_test
async def test_many_with_large_categories_are_no_larger_a_batch(bench: Bench) -> None:
    """Four of them have room in the sink for Pub/Sub."""
    large = {"level": tuple(f"{number:04}" + "x" * 96 for number in range(20))}
    for number in range(200):
        one = connection(f"user-{number}", categories=large)
        placed = [(place, message(f"m-{place}")) for place in range(1, 101)]
        assert one.push_log(placed, "live", 0, 0.0) == 100
        bench.confirm(one)
    await bench.drained()
    sizes = [sum(len(event.data) for event in batch) for batch in bench.sink.batches]
    assert sum(event.count for batch in bench.sink.batches for event in batch) == 20_000
    assert max(sizes) < 8 * 1024 * 1024


@pytest.mark.usefixtures("_gathers_for_long")
@pytest.mark.gen_test
async def test_the_end_of_a_batch_does_not_end_the_wait_of_the_next(bench: Bench) -> None:
    bench.sink.open.clear()
    bench.confirm(await bench.pushed("alice", "a-1"))
    await eventually(lambda: bench.sink.calls)
    confirm_from_log(bench, "bob")
    bench.sink.open.set()
    await eventually(lambda: bench.settler.waiting == 1)
    assert bench.sink.calls == 1
    bench.confirm(await bench.pushed("alice", "a-2"))
    await bench.drained()
    assert bench.sink.shown[1:] == [("m-1", "bob", "c-1"), ("a-2", "alice", "c-1")]


@pytest.mark.usefixtures("_gathers_for_long")
@pytest.mark.gen_test
async def test_who_is_in_a_hurry_starts_what_waits(bench: Bench) -> None:
    bench.settler.hurry()
    confirm_from_log(bench, "alice")
    bench.settler.hurry()
    await bench.drained()
    assert bench.sink.calls == 1


@pytest.mark.usefixtures("_gathers_for_long")
@pytest.mark.gen_test
async def test_what_waits_for_a_worker_does_not_wait_for_others_as_well(bench: Bench) -> None:
    bench.sink.open.clear()
    for number in range(1, MAX_WORKERS + 1):
        bench.confirm(await bench.pushed(f"user-{number}", f"m-{number}"))
        await bench.sink.called(number)
    bench.confirm(await bench.pushed("alice", "a-1"))
    # What was planned for the end of this turn is over.
    await asyncio.sleep(0)
    confirm_from_log(bench, "bob")
    bench.sink.open.set()
    await bench.drained()


@pytest.mark.usefixtures("_gathers_for_long")
@pytest.mark.gen_test
async def test_what_came_live_does_not_keep_waiting_what_was_confirmed_with_it(bench: Bench) -> None:
    await bench.stores.inbox.append("alice", "a-1", 60)
    one = connection("alice")
    one.push_log([(7, message("m-7"))], "live", bench.stores.clock.now_ms(), 0.0)
    one.push([message("a-1")], "live", bench.stores.clock.now_ms(), 0.0)
    bench.confirm(one)
    await bench.drained()
    assert await bench.inbox() == []


# -- errors that nobody expects


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["weighed", "exposed", "passed", "removed", "settled"])
async def test_who_cannot_be_settled_comes_back_and_holds_nobody_else_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """No peer causes that. Bob and alice confirm in one batch; when the sink breaks, that meets both."""
    monkeypatch.setattr(settle, "MAX_WORKERS", 1)
    bob = await bench.pushed("bob", "m-1", connection_id="c-1")
    alice = await bench.pushed("alice", "m-2", connection_id="c-2")
    if step == "exposed":
        bench.sink.errors = [ValueError("an error of the test")]
    else:
        owner, name = {
            "weighed": (settle, "_weight"),
            "passed": (Settler, "_pass"),
            "removed": (Inbox, "settle"),
            "settled": (Connection, "settled"),
        }[step]
        real = getattr(owner, name)

        def broken(*args: object) -> object:
            if "bob" in [getattr(getattr(one, "connection", one), "user", one) for one in args]:
                raise ValueError("an error of the test")
            return real(*args)

        monkeypatch.setattr(owner, name, broken)
    for one in (bob, alice):
        bench.confirm(one)
    with capture_logs() as logged:
        await bench.drained()
        await eventually(lambda: aborted(bob) and bench.counted("task_failures_total") == 1)
        assert len([line for line in logged if line["log_level"] == "error"]) == 1
    assert (bench.settler.waiting, aborted(alice)) == (0, step == "exposed")
    assert await bench.inbox("alice") == (["m-2"] if step == "exposed" else [])
    # The worker is free again.
    bench.confirm(await bench.pushed("carol", "m-3", connection_id="c-3"))
    await bench.drained()
    assert await bench.inbox("carol") == []


def aborted(one: Connection) -> bool:
    assert isinstance(one.transport, Wire)
    return one.transport.aborted
