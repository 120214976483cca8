"""What the callbacks of the event loop cost, in seconds of the thread's CPU time (promise P6)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cpu_time import TooSlow, cpu_seconds, slowness

__all__ = ["MAX_CALLBACK_S", "short_callbacks"]

MAX_CALLBACK_S = 0.05 * slowness()
"""What is promised, on a machine as quick as that of docs/performance.md in a quiet hour."""


@contextmanager
def short_callbacks() -> Iterator[None]:
    """Measure every callback that any loop of this process runs meanwhile.

    Raises `TooSlow` in the end if one of them cost more than it may; tests that use it are `measured_again`.
    What the test run itself holds in memory is kept from the garbage collector, as a pod does with its own.
    """
    worst_s, worst = 0.0, "none"
    gc.collect()
    gc.freeze()
    run = asyncio.events.Handle._run

    def measured(handle: asyncio.events.Handle) -> None:
        nonlocal worst_s, worst
        callback = handle._callback  # type: ignore[attr-defined]
        cost = cpu_seconds(lambda: run(handle))
        if cost > worst_s:
            worst_s, worst = cost, repr(callback)

    asyncio.events.Handle._run = measured  # type: ignore[assignment]
    try:
        yield
    finally:
        asyncio.events.Handle._run = run
        gc.unfreeze()
    if worst_s >= MAX_CALLBACK_S:
        raise TooSlow(f"{worst_s * 1000:.0f} ms for {worst}")
