"""The loop's own watchdog: how late it is, and how long a turn of it took at most.

A turn is from its waking up to its waiting again: whatever else is ready waits that long. It runs at least
one callback, so no callback took longer.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import time
from collections.abc import Callable
from selectors import SelectorKey

from pushserver.core.metrics import Metrics

__all__ = ["WatchedSelector", "watch_loop"]

LAG_EVERY_S = 0.05
FREEZE_EVERY = 1000
"""Connections after which the garbage collector is told to leave alone what is there."""


class WatchedSelector(selectors.DefaultSelector):
    """A selector for an event loop that keeps the longest turn, by the clock and of the thread's CPU."""

    def __init__(self) -> None:
        super().__init__()
        self._woke = self._asked_cpu = 0.0
        self._longest = self._longest_cpu = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait as ever; what was done since the last wait was a turn."""
        # One look at it for a turn, for it is a system call; waiting takes next to none.
        cpu = time.thread_time()
        if self._woke:
            self._longest = max(self._longest, time.monotonic() - self._woke)
            self._longest_cpu = max(self._longest_cpu, cpu - self._asked_cpu)
        self._asked_cpu = cpu
        ready = super().select(timeout)
        self._woke = time.monotonic()
        return ready

    def take_longest(self) -> float:
        """Seconds of the longest turn since this was asked last."""
        longest, self._longest = self._longest, 0.0
        return longest

    def take_longest_cpu(self) -> float:
        """The same in seconds of the thread's CPU time: what other processes took is not in it."""
        longest, self._longest_cpu = self._longest_cpu, 0.0
        return longest

    def show(self, metrics: Metrics) -> None:
        """Have both scraped; a scrape begins a new period."""
        read = metrics.read_at_scrape
        read("loop_turn_max_seconds", "Longest turn of the loop since the last scrape", self.take_longest)
        read("loop_turn_max_cpu_seconds", "The same, of the thread's CPU time", self.take_longest_cpu)


async def watch_loop(metrics: Metrics, connections: Callable[[], int]) -> None:
    """Measure for ever how late the loop's timers are, and keep collections of garbage from holding it."""
    loop = asyncio.get_running_loop()
    frozen = 0
    while True:
        due = loop.time() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        metrics.loop_lag.observe(max(0.0, loop.time() - due))
        open_now = connections()
        if open_now >= frozen + FREEZE_EVERY:
            # Connections live long and make no cycles: a collection need not walk them, which takes longer
            # than the loop may be held. What is garbage already must not be frozen with them.
            gc.collect()
            gc.freeze()
            frozen = open_now
        frozen = min(frozen, open_now)
