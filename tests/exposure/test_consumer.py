from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from pushserver.core.alarm import Alarm
from pushserver.core.errors import ConfigError, DatabaseError, SourceError
from pushserver.core.metrics import Metrics
from pushserver.exposure import consumer as module
from pushserver.exposure.consumer import Consumer
from pushserver.exposure.record import Taken
from pushserver.exposure.source import Delivery
from tests.pod import eventually


class FakeSource:
    """Gives out what a test puts in, and notes in which order it is asked for what."""

    def __init__(self, steps: list[str]) -> None:
        self.batches: list[list[bytes]] = []
        self.finished: list[bytes] = []
        self.errors: dict[str, list[Exception]] = {"open": [], "receive": [], "finish": []}
        self._steps = steps

    def _step(self, name: str) -> None:
        if self.errors[name]:
            raise self.errors[name].pop(0)

    async def open(self) -> None:
        self._step("open")

    async def receive(self) -> Sequence[Delivery]:
        await asyncio.sleep(0)
        self._step("receive")
        batch = self.batches.pop(0) if self.batches else []
        return [Delivery(data.decode(), data) for data in batch]

    async def finish(self, deliveries: Sequence[Delivery]) -> None:
        self._steps.append(f"finish {len(deliveries)}")
        self._step("finish")
        self.finished += [one.data for one in deliveries]

    async def close(self) -> None:
        """Nothing to give back."""


class FakeKeeper:
    """Keeps, or raises what it was given; while `held` is clear it hangs."""

    def __init__(self, steps: list[str]) -> None:
        self.kept: list[bytes] = []
        self.opened = 0
        self.errors: list[Exception] = []
        self.held = asyncio.Event()
        self.held.set()
        self._steps = steps

    async def open(self) -> None:
        self.opened += 1
        if self.errors:
            raise self.errors.pop(0)

    async def take(self, events: Sequence[bytes]) -> Taken:
        self._steps.append(f"take {len(events)}")
        await self.held.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.kept += events
        letters = {"not_json": 1} if b"poison" in events else {}
        return Taken(len(events), len(events) - 1, letters, 0)


class Rig:
    def __init__(self) -> None:
        self.steps: list[str] = []
        self.source = FakeSource(self.steps)
        self.keeper = FakeKeeper(self.steps)
        self.metrics = Metrics()
        self.consumer = Consumer(self.source, self.keeper, self.metrics, Alarm(60))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.consumer.run())
        try:
            yield
        finally:
            self.consumer.stop()
            async with asyncio.timeout(5):
                await task

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"pushserver_{name}", labels) or 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-offs of milliseconds."""
    monkeypatch.setattr(module, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(module, "MOST_RETRY_S", 0.002)


def until(rig: Rig, *batches: list[bytes]) -> Callable[[], bool]:
    wanted = [data for batch in batches for data in batch]
    return lambda: rig.source.finished == wanted


@pytest.mark.gen_test
async def test_a_batch_is_acknowledged_after_it_was_kept() -> None:
    rig = Rig()
    rig.source.batches = [[b"a", b"b"], [b"c"]]
    rig.keeper.held.clear()
    async with rig.running():
        await eventually(lambda: rig.steps)
        assert (rig.steps, rig.source.finished) == (["take 2"], [])
        rig.keeper.held.set()
        await eventually(until(rig, [b"a", b"b"], [b"c"]))
    assert rig.steps == ["take 2", "finish 2", "take 1", "finish 1"]
    assert rig.keeper.kept == [b"a", b"b", b"c"]


@pytest.mark.gen_test
@pytest.mark.usefixtures("quick")
async def test_while_the_database_is_away_nothing_is_acknowledged_and_nothing_lost() -> None:
    rig = Rig()
    rig.source.batches = [[b"a"], [b"b"]]
    rig.keeper.held.clear()
    with capture_logs() as lines:
        async with rig.running():
            await eventually(lambda: rig.steps)
            rig.keeper.errors = [DatabaseError("locked", "away") for _ in range(5)]
            rig.keeper.held.set()
            await eventually(until(rig, [b"a"], [b"b"]))
            assert rig.consumer.away == ""
    assert rig.keeper.kept == [b"a", b"b"]
    assert [line["event"] for line in lines] == ["consume.away", "consume.back"]
    assert rig.value("consume_failures_total", where="database", kind="locked") == 5


@pytest.mark.gen_test
@pytest.mark.usefixtures("quick")
async def test_a_batch_that_is_too_much_for_the_database_goes_in_parts() -> None:
    """Else one that takes longer than a batch may take would be tried for ever."""
    rig = Rig()
    rig.source.batches = [[b"%d" % n for n in range(10)], [b"one more"]]
    take = rig.keeper.take

    async def takes_four_at_most(events: Sequence[bytes]) -> Taken:
        if len(events) > 4:
            raise DatabaseError("timeout", "too many")
        return await take(events)

    rig.keeper.take = takes_four_at_most  # a slower one
    with capture_logs():
        async with rig.running():
            await eventually(lambda: len(rig.source.finished) == 11)
    assert rig.keeper.kept == rig.source.finished
    assert rig.steps[0] == "take 2"
    assert "finish 10" in rig.steps


@pytest.mark.gen_test
async def test_a_source_that_is_away_is_asked_again() -> None:
    rig = Rig()
    rig.source.batches = [[b"a"]]
    rig.source.errors["open"] = [SourceError("unavailable", "away")]
    rig.source.errors["receive"] = [SourceError("unavailable", "away")] * 3
    with capture_logs():
        async with rig.running():
            await eventually(until(rig, [b"a"]))
    assert rig.value("consume_failures_total", where="source", kind="unavailable") == 4


@pytest.mark.gen_test
async def test_what_cannot_be_acknowledged_comes_again_by_itself() -> None:
    rig = Rig()
    rig.source.batches = [[b"a"], [b"b"]]
    rig.source.errors["finish"] = [SourceError("unavailable", "away")]
    with capture_logs():
        async with rig.running():
            await eventually(until(rig, [b"b"]))
    assert rig.steps == ["take 1", "finish 1", "take 1", "finish 1"]


@pytest.mark.gen_test
async def test_a_stop_finishes_the_batch_under_way() -> None:
    rig = Rig()
    rig.source.batches = [[b"a"], [b"b"]]
    rig.keeper.held.clear()
    async with rig.running():
        await eventually(lambda: rig.steps)
        rig.consumer.stop()
        rig.keeper.held.set()
    assert rig.source.finished == [b"a"]


@pytest.mark.gen_test
async def test_a_stop_while_the_database_is_away_acknowledges_nothing() -> None:
    rig = Rig()
    rig.source.batches = [[b"a"]]
    rig.keeper.held.clear()
    with capture_logs():
        async with rig.running():
            await eventually(lambda: rig.steps)
            rig.keeper.errors = [DatabaseError("locked", "away") for _ in range(100)]
            rig.keeper.held.set()
            await eventually(lambda: rig.consumer.away == "database: locked")
    assert (rig.source.finished, rig.keeper.kept) == ([], [])


@pytest.mark.gen_test
async def test_what_no_trying_again_mends_ends_it() -> None:
    rig = Rig()
    rig.keeper.errors = [ConfigError("consume.database_url", "of a newer version")]
    with pytest.raises(ConfigError):
        await rig.consumer.run()


@pytest.mark.gen_test
async def test_what_becomes_of_events_is_counted() -> None:
    rig = Rig()
    rig.source.batches = [[b"a", b"b", b"poison"]]
    with capture_logs() as lines:
        async with rig.running():
            await eventually(until(rig, [b"a", b"b", b"poison"]))
    assert rig.value("consumed_events_total") == 3
    assert rig.value("consumed_exposures_total", result="new") == 2
    assert rig.value("consumed_exposures_total", result="known") == 1
    assert rig.value("consume_dead_letters_total", reason="not_json") == 1
    assert rig.value("consume_batch_seconds_count") == 1
    assert [(line["event"], line["not_json"]) for line in lines] == [("consume.dead_letters", 1)]
