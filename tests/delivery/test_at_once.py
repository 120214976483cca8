"""Several coroutines that wait at once, in one task."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from pushserver.delivery.at_once import at_once


async def value(of: Any, turns: int = 0) -> Any:
    for _ in range(turns):
        await asyncio.sleep(0)
    return of


@pytest.mark.gen_test
async def test_the_results_come_in_order() -> None:
    assert await at_once(value(1, 3), value(2), value(3, 1)) == (1, 2, 3)


@pytest.mark.gen_test
async def test_all_begin_before_any_is_waited_for() -> None:
    loop, begun = asyncio.get_running_loop(), []
    answers = [loop.create_future() for _ in range(3)]

    async def ask(number: int) -> int:
        begun.append(number)
        answer: int = await answers[number]
        return answer * 2

    task = asyncio.ensure_future(at_once(ask(0), ask(1), ask(2)))
    await asyncio.sleep(0)
    assert begun == [0, 1, 2]
    for number in (2, 0, 1):
        answers[number].set_result(number)
        await asyncio.sleep(0)
    assert await task == (0, 2, 4)


@pytest.mark.gen_test
async def test_what_is_answered_at_once_needs_one_turn_of_the_loop() -> None:
    loop = asyncio.get_running_loop()
    answer = loop.create_future()

    async def ask() -> int:
        number: int = await answer
        return number

    task = asyncio.ensure_future(at_once(ask(), ask(), ask()))
    await asyncio.sleep(0)
    answer.set_result(1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert task.done()
    assert task.result() == (1, 1, 1)


@pytest.mark.gen_test
async def test_an_error_is_raised_and_the_others_are_closed() -> None:
    closed = []

    async def wait(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append(number)

    async def fail(turns: int) -> None:
        await value(None, turns)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await at_once(fail(0), wait(1), wait(2))
    assert closed == [], "what never began has nothing to tidy up"
    with pytest.raises(ZeroDivisionError):
        await at_once(value(1), wait(1), fail(0))
    assert closed == [1]
    with pytest.raises(ZeroDivisionError):
        await at_once(fail(2), wait(1), wait(2))
    assert closed == [1, 1, 2]


@pytest.mark.gen_test
async def test_who_cancels_it_cancels_all() -> None:
    ends = []

    async def wait(number: int) -> None:
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            ends.append((number, type(error)))
            raise

    task = asyncio.ensure_future(at_once(wait(0), wait(1), wait(2)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends == [(0, asyncio.CancelledError), (1, GeneratorExit), (2, GeneratorExit)]


@pytest.mark.gen_test
async def test_one_that_catches_its_cancellation_goes_on() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "done"

    task = asyncio.ensure_future(at_once(stubborn(), value(2), value(3)))
    await asyncio.sleep(0)
    task.cancel()
    assert await task == ("done", 2, 3)


@pytest.mark.gen_test
async def test_any_awaitable_may_be_waited_for_within() -> None:
    class Twice:
        def __await__(self) -> Generator[None, None, int]:
            yield
            yield
            return 2

    async def wait() -> int:
        async with asyncio.timeout(5):
            return await Twice()

    assert await at_once(wait(), asyncio.sleep(0.001, 5), value(3)) == (2, 5, 3)
