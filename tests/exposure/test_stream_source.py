from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from pushserver.core.errors import SourceError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.exposure import portion
from pushserver.exposure.event import Event
from pushserver.exposure.source import Delivery
from pushserver.exposure.stream_source import StreamSource
from pushserver.stores.exposure_stream import ExposureStream
from tests.exposure.examples import some_events
from tests.pod import eventually


@asynccontextmanager
async def opened(
    stream: ExposureStream, name: str, metrics: Metrics, **options: Any
) -> AsyncIterator[StreamSource]:
    given = {"batch_events": 100, "batch_bytes": 1_000_000, "claim_after_s": 60, **options}
    source = StreamSource(stream, name, metrics, **given)
    await source.open()
    try:
        yield source
    finally:
        await source.close()


def datas(deliveries: Sequence[Delivery]) -> list[bytes]:
    return [one.data for one in deliveries]


async def everything(source: StreamSource) -> list[bytes]:
    """Receive and finish until nothing comes."""
    found: list[bytes] = []
    while deliveries := await source.receive():
        found += datas(deliveries)
        await source.finish(deliveries)
    return found


@pytest.mark.gen_test
async def test_events_come_in_order_and_are_gone_when_they_are_finished(
    stream: ExposureStream, metrics: Metrics
) -> None:
    events = some_events(250)
    await stream.add(events)
    async with opened(stream, "one", metrics) as source:
        assert await everything(source) == [event.data for event in events]
    assert await stream.length() == 0


@pytest.mark.gen_test
async def test_what_is_not_finished_stays(stream: ExposureStream, metrics: Metrics) -> None:
    await stream.add(some_events(3))
    async with opened(stream, "one", metrics) as source:
        assert len(await source.receive()) == 3
    assert await stream.length() == 3


@pytest.mark.gen_test
async def test_consumers_side_by_side_share_the_events(stream: ExposureStream, metrics: Metrics) -> None:
    events = some_events(300)
    await stream.add(events)
    async with (
        opened(stream, "one", metrics) as one,
        opened(stream, "two", metrics) as two,
    ):
        found = await asyncio.gather(everything(one), everything(two))
    assert sorted(found[0] + found[1]) == sorted(event.data for event in events)
    assert all(found)


@pytest.mark.gen_test
async def test_what_a_dead_consumer_had_is_taken_over(stream: ExposureStream, metrics: Metrics) -> None:
    events = some_events(5)
    await stream.add(events)
    await stream.read_new("dead", 3)
    async with opened(stream, "one", metrics, claim_after_s=0.1) as source:
        found: list[bytes] = []
        while len(found) < 5:
            found += await everything(source)
    assert sorted(found) == sorted(event.data for event in events)
    assert await stream.length() == 0


@pytest.mark.gen_test
async def test_what_is_held_for_long_is_not_taken_over(stream: ExposureStream, metrics: Metrics) -> None:
    """A database that is away for longer than the time to claim is not a consumer that is dead."""
    await stream.add(some_events(2))
    async with (
        opened(stream, "slow", metrics, claim_after_s=0.6) as slow,
        opened(stream, "eager", metrics, claim_after_s=0.6) as eager,
    ):
        held = await slow.receive()
        assert len(held) == 2
        assert await eager.receive() == []
        await asyncio.sleep(0.8)
        assert await eager.receive() == []
        await slow.finish(held)
    assert await stream.length() == 0


class Failing:
    """A stream of which one step fails once, its answer lost."""

    def __init__(self, stream: ExposureStream, step: str) -> None:
        self._stream = stream
        self._step = step

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._stream, name)
        if name != self._step:
            return method
        self._step = ""

        async def fail(*arguments: Any) -> None:
            await method(*arguments)
            raise StoreUnavailableError("timeout", "the answer is lost")

        return fail


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["read_new", "finish", "claim"])
async def test_a_lost_answer_loses_no_event(stream: ExposureStream, metrics: Metrics, step: str) -> None:
    events = some_events(4)
    await stream.add(events)
    found: set[bytes] = set()
    failing: Any = Failing(stream, step)
    async with opened(failing, "one", metrics) as source:
        for _ in range(2):
            with suppress(SourceError):
                found |= set(await everything(source))
    if step != "finish":
        assert found == {event.data for event in events}
    assert await stream.length() == 0


@pytest.mark.gen_test
async def test_an_entry_without_data_is_given_out_for_the_dead_letters(
    stream: ExposureStream, metrics: Metrics
) -> None:
    await stream.add([Event("", "", 0, b""), *some_events(1)])
    async with opened(stream, "one", metrics) as source:
        assert [len(data) > 0 for data in await everything(source)] == [False, True]


@pytest.mark.gen_test
async def test_large_entries_make_small_batches(
    stream: ExposureStream, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portion, "FIRST_COUNT", 2)
    await stream.add([Event("", "", 0, b"x" * 10_000) for _ in range(20)])
    async with opened(stream, "one", metrics, batch_bytes=50_000) as source:
        sizes = []
        while deliveries := await source.receive():
            sizes.append(len(deliveries))
            await source.finish(deliveries)
    assert sizes == [2, 4, 4, 4, 4, 2]


@pytest.mark.gen_test
async def test_what_is_held_is_shown(stream: ExposureStream, metrics: Metrics) -> None:
    await stream.add(some_events(3))
    held = lambda: metrics.registry.get_sample_value("pushserver_consume_held_events")  # noqa: E731
    async with opened(stream, "one", metrics) as source:
        deliveries = await source.receive()
        assert held() == 3
        await source.finish(deliveries)
        await eventually(lambda: held() == 0)
