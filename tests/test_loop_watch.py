"""The watchdog of the loop: the longest turn, once for each time it is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from pushserver.loop_watch import WatchedSelector

HELD_S = 0.05
WAIT_S = 0.5
"""Longer than a busy machine lets a process stand still."""


def watched(work: Callable[[], Coroutine[Any, Any, None]]) -> WatchedSelector:
    selector = WatchedSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(work())
    return selector


async def sleep_in_a_callback() -> None:
    await asyncio.sleep(0)
    time.sleep(HELD_S)  # noqa: ASYNC251 - what is to be found
    await asyncio.sleep(0)


async def compute_in_a_callback() -> None:
    await asyncio.sleep(0)
    end = time.thread_time() + HELD_S
    while time.thread_time() < end:
        pass
    await asyncio.sleep(0)


async def wait() -> None:
    await asyncio.sleep(WAIT_S)


def test_a_callback_that_blocks_is_a_long_turn_and_none_of_cpu() -> None:
    selector = watched(sleep_in_a_callback)
    assert selector.take_longest() >= HELD_S
    assert selector.take_longest_cpu() < HELD_S


def test_a_callback_that_computes_is_a_long_turn_of_both() -> None:
    selector = watched(compute_in_a_callback)
    assert selector.take_longest() >= HELD_S
    assert selector.take_longest_cpu() >= HELD_S


def test_waiting_is_no_turn() -> None:
    assert watched(wait).take_longest() < WAIT_S


def test_who_asks_begins_a_new_period() -> None:
    selector = watched(compute_in_a_callback)
    selector.take_longest()
    selector.take_longest_cpu()
    assert (selector.take_longest(), selector.take_longest_cpu()) == (0, 0)
