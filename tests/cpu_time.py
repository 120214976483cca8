"""What something costs, in seconds of the thread's CPU time: other processes do not count."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

import pytest

__all__ = ["TooSlow", "at_most", "cpu_seconds", "measured_again", "slowness"]

LOOP_S = 0.005
"""What `_loop` takes there."""


class TooSlow(AssertionError):
    """It cost more than it may."""


measured_again = pytest.mark.flaky(reruns=4, only_rerun=["TooSlow"])
"""For tests that raise `TooSlow`: a machine that stalls adds to a measurement and nothing takes away from it,
so what costs too much does so each time. Whatever else fails is not tried again."""


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


def at_most(bound_s: float, action: Callable[[], object]) -> None:
    """Run `action`. Raises `TooSlow` if it cost that much or more; tests that use it are `measured_again`."""
    spent = cpu_seconds(action)
    if spent >= bound_s:
        raise TooSlow(f"{spent * 1000:.0f} ms")


def slowness() -> float:
    """How many times as long as a quick and quiet machine this one takes for a loop; 1 at least."""
    return max(1.0, median(cpu_seconds(_loop) for _ in range(5)) / LOOP_S)


def _loop() -> None:
    total = 0
    for number in range(100_000):
        total += number
