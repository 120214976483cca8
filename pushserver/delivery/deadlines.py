"""Time-outs of one length for many waits at once, with one timer for all of them.

`asyncio.timeout` makes a timer for each wait and cancels it again, which in a storm of connects costs more
than what is waited for.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from types import TracebackType
from typing import Protocol

__all__ = ["Deadlines", "Interruptible", "Overdue"]

SLICE = 100
"""Waits that are ended in one callback of the loop."""


class Overdue(Protocol):
    """Whoever is told when the time is over. Hashed by identity."""

    def overdue(self) -> None:
        """The time is over. Told once; must not raise."""


class Deadlines:
    """Tells each `Overdue` when `seconds` have gone by since its `begin`, unless it came to its `end` before.

    All last equally long, so they fall due in the order they began.
    """

    __slots__ = ("_due", "_seconds", "_timer")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due: dict[Overdue, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, who: Overdue) -> None:
        """Count from now on."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._seconds
        self._due[who] = due
        if self._timer is None:
            self._timer = loop.call_at(due, self._look)

    def end(self, who: Overdue) -> None:
        """Count no more. Twice is once."""
        self._due.pop(who, None)

    def watch(self) -> Interruptible:
        """`with` it, what the current task awaits ends with `TimeoutError` when the time is over."""
        return Interruptible(self)

    def close(self) -> None:
        """Tell nobody any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __len__(self) -> int:
        return len(self._due)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        for who, due in list(islice(self._due.items(), SLICE)):
            if due > now:
                break
            # Whoever was told before may have ended this one.
            if self._due.pop(who, None) is not None:
                who.overdue()
        if self._due and self._timer is None:
            self._timer = loop.call_at(next(iter(self._due.values())), self._look)


class Interruptible:
    """`with` this, `overdue` makes what the current task awaits raise `TimeoutError`, like `asyncio.timeout`.

    A task that is cancelled by somebody else as well stays cancelled. Without `deadlines` it ends only by
    a call of `overdue`, from outside of the task; if that comes before the `with`, there it raises at once.
    """

    __slots__ = ("_before", "_deadlines", "_over", "_task")

    def __init__(self, deadlines: Deadlines | None = None) -> None:
        self._deadlines = deadlines
        self._task: asyncio.Task[object] | None = None
        self._before = 0
        self._over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("only a task can be interrupted")
        if self._over:
            raise TimeoutError
        self._task = task
        self._before = task.cancelling()
        if self._deadlines is not None:
            self._deadlines.begin(self)

    def overdue(self) -> None:
        """Interrupt. Once is enough; later it has no effect."""
        if not self._over:
            self._over = True
            if self._task is not None:
                self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if self._deadlines is not None:
            self._deadlines.end(self)
        if not self._over or task is None:
            return
        if task.uncancel() <= self._before and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error
