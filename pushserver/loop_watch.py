"""The loop's own watchdog: how long a turn of it took, from its waking up to its waiting again.

Whatever else is ready waits that long. A turn runs at least one callback, so no callback took longer.
"""

from __future__ import annotations

import selectors
import time
from selectors import SelectorKey

from pushserver.core.metrics import Metrics

__all__ = ["WatchedSelector"]


class WatchedSelector(selectors.DefaultSelector):
    """A selector for an event loop that keeps the longest turn, by the clock and of the thread's CPU."""

    def __init__(self) -> None:
        super().__init__()
        self._woke = self._woke_cpu = 0.0
        self._longest = self._longest_cpu = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait as ever; what was done since the last wait was a turn."""
        if self._woke:
            self._longest = max(self._longest, time.monotonic() - self._woke)
            self._longest_cpu = max(self._longest_cpu, time.thread_time() - self._woke_cpu)
        ready = super().select(timeout)
        self._woke, self._woke_cpu = time.monotonic(), time.thread_time()
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
