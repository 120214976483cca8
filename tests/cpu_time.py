"""What something costs, in seconds of the thread's CPU time: other processes do not count."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

__all__ = ["cpu_seconds", "slowness"]

LOOP_S = 0.005
"""What `_loop` takes there."""


def cpu_seconds(action: Callable[[], object]) -> float:
    """Run `action`; what it cost. What measures coverage is left out: it costs more than what it looks at."""
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        began = time.thread_time()
        action()
        return time.thread_time() - began
    finally:
        sys.settrace(trace)


def slowness() -> float:
    """How many times as long as a quick and quiet machine this one takes for a loop; 1 at least."""
    return max(1.0, median(cpu_seconds(_loop) for _ in range(5)) / LOOP_S)


def _loop() -> None:
    total = 0
    for number in range(100_000):
        total += number
