"""A pod's leaving, as far as its connections go."""

from __future__ import annotations

import asyncio
import time

import pytest

from pushserver.core.close_codes import CloseCode
from pushserver.delivery import drain as drain_module
from pushserver.delivery.connection import Connection
from pushserver.delivery.drain import Drain
from pushserver.delivery.manager import Manager
from tests.delivery.wire import Wire, connection
from tests.pod import eventually

RESTART = (CloseCode.SERVICE_RESTART, "the pod is leaving")


class Bench:
    """Connections whose clients answer a goodbye when the test says so."""

    def __init__(self, spread_s: float) -> None:
        self.manager = Manager()
        self.leaving: set[Connection] = set()
        self.drain = Drain(self.manager, self.leaving, spread_s=spread_s)

    def come(self, count: int) -> list[Wire]:
        wires = [Wire() for _ in range(count)]
        for number, wire in enumerate(wires):
            self.manager.add(connection(f"user-{number}-{len(self.manager)}", wire=wire))
        return wires

    def answer(self) -> None:
        """Every client that was said goodbye to has closed, too."""
        for one in self.manager:
            if one.transport.closed_with:  # type: ignore[attr-defined]
                self.manager.remove(one)


def told(wires: list[Wire]) -> int:
    """How many were said goodbye to."""
    assert {wire.closed_with for wire in wires} <= {None, RESTART}
    return sum(wire.closed_with is not None for wire in wires)


@pytest.mark.gen_test
async def test_everybody_is_sent_1012_and_the_drain_ends_when_all_are_gone() -> None:
    bench = Bench(0.0)
    wires = bench.come(7)
    draining = asyncio.ensure_future(bench.drain.run())
    await eventually(lambda: told(wires) == 7)
    await asyncio.sleep(0)
    assert not draining.done()
    bench.answer()
    await draining


@pytest.mark.gen_test
async def test_an_empty_pod_is_drained_at_once() -> None:
    async with asyncio.timeout(5):
        await Bench(600.0).drain.run()


@pytest.mark.gen_test
async def test_goodbyes_are_spread() -> None:
    bench = Bench(0.5)
    wires = bench.come(100)
    began, seen = time.monotonic(), set()
    draining = asyncio.ensure_future(bench.drain.run())
    while told(wires) < 100:
        seen.add(told(wires))
        await asyncio.sleep(0.001)
    assert time.monotonic() - began > 0.4
    assert seen >= {10, 20, 30, 40, 50, 60, 70, 80, 90}
    bench.answer()
    await draining


@pytest.mark.gen_test
async def test_a_second_signal_says_goodbye_to_all_that_are_left() -> None:
    bench = Bench(600.0)
    wires = bench.come(100)
    draining = asyncio.ensure_future(bench.drain.run())
    await eventually(lambda: told(wires) == 1)
    bench.drain.hurry()
    await eventually(lambda: told(wires) == 100)
    bench.answer()
    await draining


@pytest.mark.gen_test
async def test_without_a_spread_no_callback_says_goodbye_to_more_than_a_slice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drain_module, "MAX_STEP", 4)
    bench = Bench(0.0)
    wires = bench.come(10)
    draining, seen = asyncio.ensure_future(bench.drain.run()), []
    while told(wires) < 10:
        await asyncio.sleep(0)
        seen.append(told(wires))
    assert [each for each in dict.fromkeys(seen) if each] == [4, 8, 10]
    bench.answer()
    await draining


@pytest.mark.gen_test
async def test_who_was_let_in_before_the_drain_and_opens_late_is_said_goodbye_to() -> None:
    bench = Bench(0.0)
    early = bench.come(1)
    draining = asyncio.ensure_future(bench.drain.run())
    await eventually(lambda: told(early) == 1)
    late = bench.come(1)
    bench.answer()
    await eventually(lambda: told(late) == 1)
    bench.answer()
    await draining


@pytest.mark.gen_test
async def test_a_goodbye_that_was_said_before_is_waited_for() -> None:
    bench = Bench(0.0)
    one = connection()
    bench.leaving.add(one)
    draining = asyncio.ensure_future(bench.drain.run())
    await asyncio.sleep(0.06)
    assert not draining.done()
    bench.leaving.remove(one)
    await draining


@pytest.mark.gen_test
async def test_at_the_deadline_whoever_is_left_is_told_and_cut() -> None:
    bench = Bench(600.0)
    wires = bench.come(3)
    leaving = Wire()
    bench.leaving.add(connection(wire=leaving))
    assert bench.drain.cut() == 4
    assert all(wire.aborted for wire in [*wires, leaving])
    assert told(wires) == 3
