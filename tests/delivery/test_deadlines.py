"""Time-outs of one length with one timer for all."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from pushserver.delivery import deadlines as module
from pushserver.delivery.deadlines import Deadlines, Interruptible
from tests.pod import eventually


class Guest:
    """Remembers that it was told."""

    def __init__(self, told: list[Guest]) -> None:
        self._told = told

    def overdue(self) -> None:
        self._told.append(self)


@pytest.mark.gen_test
async def test_whoever_is_overdue_is_told_in_order_and_once() -> None:
    told: list[Guest] = []
    deadlines = Deadlines(0.01)
    guests = [Guest(told) for _ in range(5)]
    for guest in guests:
        deadlines.begin(guest)
    await eventually(lambda: told == guests)
    assert len(deadlines) == 0
    deadlines.end(guests[0])


@pytest.mark.gen_test
async def test_nobody_is_told_before_the_time_or_after_the_end() -> None:
    told: list[Guest] = []
    deadlines = Deadlines(0.05)
    early, late = Guest(told), Guest(told)
    loop = asyncio.get_running_loop()
    began = loop.time()
    deadlines.begin(early)
    deadlines.begin(late)
    deadlines.end(early)
    await eventually(lambda: told)
    assert told == [late]
    assert loop.time() >= began + 0.05


@pytest.mark.gen_test
async def test_one_who_is_told_may_end_another() -> None:
    told: list[Guest] = []
    deadlines = Deadlines(0.01)
    other = Guest(told)

    class Ender:
        def overdue(self) -> None:
            deadlines.end(other)

    deadlines.begin(Ender())
    deadlines.begin(other)
    await eventually(lambda: len(deadlines) == 0)
    assert not told


@pytest.mark.gen_test
async def test_many_are_told_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLICE", 2)
    told: list[Guest] = []
    deadlines = Deadlines(0.01)
    for _ in range(5):
        deadlines.begin(Guest(told))
    seen = [0]
    while len(told) < 5:
        await asyncio.sleep(0)
        seen.append(len(told))
    # They may fall due one by one.
    assert all(after - before <= 2 for before, after in pairwise(seen))


@pytest.mark.gen_test
async def test_a_wait_that_takes_too_long_is_a_timeout_and_leaves_the_task_as_it_was() -> None:
    deadlines = Deadlines(0.01)
    with pytest.raises(TimeoutError), deadlines.watch():
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_a_wait_that_ends_in_time_is_none() -> None:
    deadlines = Deadlines(60)
    with deadlines.watch():
        await asyncio.sleep(0)
    assert len(deadlines) == 0
    with pytest.raises(ZeroDivisionError), deadlines.watch():
        raise ZeroDivisionError
    assert len(deadlines) == 0
    deadlines.close()


@pytest.mark.gen_test
async def test_a_task_that_is_cancelled_as_well_stays_cancelled() -> None:
    cut = Interruptible()

    async def work() -> None:
        with cut:
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    cut.overdue()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.gen_test
async def test_what_cannot_be_interrupted_goes_on() -> None:
    cut = Interruptible()
    ready = asyncio.Event()

    async def stubborn() -> str:
        with cut:
            try:
                await ready.wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
            return "done"

    task = asyncio.ensure_future(stubborn())
    await asyncio.sleep(0)
    cut.overdue()
    cut.overdue()
    assert await task == "done"
    assert not task.cancelling()


@pytest.mark.gen_test
async def test_what_was_interrupted_before_it_began_does_not_begin() -> None:
    cut = Interruptible()
    cut.overdue()
    with pytest.raises(TimeoutError), cut:
        raise AssertionError("it began")


def test_only_a_task_can_be_interrupted() -> None:
    async def outside() -> None:
        asyncio.get_running_loop().call_soon(enter)
        await failed

    def enter() -> None:
        try:
            with Interruptible():
                pass
        except RuntimeError as error:
            failed.set_exception(error)

    with asyncio.Runner() as runner:
        failed: asyncio.Future[None] = runner.get_loop().create_future()
        with pytest.raises(RuntimeError, match="task"):
            runner.run(outside())
