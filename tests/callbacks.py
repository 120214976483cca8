"""What the callbacks of the event loop cost, in seconds of the thread's CPU time (promise P6)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cpu_time import cpu_seconds, slowness

__all__ = ["MAX_CALLBACK_S", "Callbacks", "watched_callbacks"]

MAX_CALLBACK_S = 0.05 * slowness()
"""What is promised, on a machine as quick as that of docs/performance.md in a quiet hour."""


class Callbacks:
    """The costliest callback so far."""

    worst_s = 0.0
    worst = "none"


@contextmanager
def watched_callbacks() -> Iterator[Callbacks]:
    """Measure every callback that any loop of this process runs meanwhile.

    What the test run itself holds in memory is kept from the garbage collector, as a pod does with its own.
    """
    seen = Callbacks()
    gc.collect()
    gc.freeze()
    run = asyncio.events.Handle._run

    def measured(handle: asyncio.events.Handle) -> None:
        callback = handle._callback  # type: ignore[attr-defined]
        cost = cpu_seconds(lambda: run(handle))
        if cost > seen.worst_s:
            seen.worst_s, seen.worst = cost, repr(callback)

    asyncio.events.Handle._run = measured  # type: ignore[assignment]
    try:
        yield seen
    finally:
        asyncio.events.Handle._run = run
        gc.unfreeze()
