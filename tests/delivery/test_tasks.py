"""Background tasks: none is lost, none fails unseen, none outlives the pod."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from pushserver.core.metrics import Metrics
from pushserver.delivery.tasks import Tasks


@pytest.mark.gen_test
async def test_a_task_is_kept_until_it_has_ended() -> None:
    tasks, over = Tasks(Metrics()), asyncio.Event()
    task = tasks.spawn(over.wait(), "waits")
    assert len(tasks) == 1
    assert task.get_name() == "waits"
    over.set()
    await task
    await asyncio.sleep(0)
    assert len(tasks) == 0


@pytest.mark.gen_test
async def test_a_task_that_breaks_is_logged_under_its_name_and_counted() -> None:
    metrics = Metrics()
    tasks = Tasks(metrics)

    async def breaks() -> None:
        raise LookupError("what went wrong")

    with capture_logs() as lines:
        await asyncio.wait([tasks.spawn(breaks(), "breaks")])
        await asyncio.sleep(0)
    assert [(line["event"], line["task"]) for line in lines] == [("task.failed", "breaks")]
    assert isinstance(lines[0]["exc_info"], LookupError)
    assert metrics.registry.get_sample_value("pushserver_task_failures_total") == 1
    assert len(tasks) == 0


@pytest.mark.gen_test
async def test_close_returns_when_everything_has_ended_even_what_takes_its_time() -> None:
    tasks, tidied = Tasks(Metrics()), []

    async def tidies_up() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tidied.append(1)

    for _ in range(3):
        tasks.spawn(tidies_up(), "tidies up")
    await asyncio.sleep(0)
    with capture_logs() as lines:
        await tasks.close()
    assert (len(tidied), len(tasks)) == (3, 0)
    assert lines == []  # a cancelled task is no failure


@pytest.mark.gen_test
async def test_close_ends_also_when_what_is_cancelled_begins_anew_over_and_over() -> None:
    tasks, begun = Tasks(Metrics()), []

    async def comes_again() -> None:
        begun.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            tasks.spawn(comes_again(), "comes again")

    tasks.spawn(comes_again(), "comes again")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.close()
    assert (len(begun), len(tasks)) == (1, 0)


@pytest.mark.gen_test
async def test_close_ends_also_when_a_cancellation_is_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushserver.delivery.tasks.CANCEL_EVERY_S", 0.05)
    tasks = Tasks(Metrics())
    swallowed: list[int] = []

    async def goes_on() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if swallowed:
                    raise
                swallowed.append(1)

    tasks.spawn(goes_on(), "goes on")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.close()
    assert (len(swallowed), len(tasks)) == (1, 0)


@pytest.mark.gen_test
async def test_after_close_nothing_begins_any_more() -> None:
    tasks, begun = Tasks(Metrics()), []

    async def begins() -> None:
        begun.append(1)

    await tasks.close()
    await asyncio.wait([tasks.spawn(begins(), "begins")])
    await asyncio.sleep(0)
    assert (begun, len(tasks)) == ([], 0)
