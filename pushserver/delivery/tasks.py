"""Background tasks with an owner: each is kept, and each one's exception is seen."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from pushserver.core.metrics import Metrics

__all__ = ["Tasks", "together"]

log = structlog.get_logger(__name__)

CANCEL_EVERY_S = 1.0
"""How long what was cancelled may tidy up before it is cancelled again."""


class Tasks:
    """Owns tasks. One that ends with an error is logged and counted; `close` leaves none behind."""

    __slots__ = ("_closed", "_metrics", "_tasks")

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` in the background under `name`, which must hold nothing secret.

        Once `close` was called nothing begins any more: `work` is cancelled before its first step.
        """
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        if self._closed:
            # What is cancelled tidies up, and may ask for more work in doing so, over and over.
            task.cancel()
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._metrics.task_failures.inc()
            log.error("task.failed", task=task.get_name(), exc_info=error)

    def __len__(self) -> int:
        return len(self._tasks)

    async def close(self) -> None:
        """Cancel what still runs and wait until all of it has ended."""
        self._closed = True
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            # Again, if one goes on: what closes a connection may take a cancellation for a time-out.
            await asyncio.wait(self._tasks, timeout=CANCEL_EVERY_S)


async def together(steps: Sequence[Coroutine[Any, Any, object]]) -> None:
    """Take the steps side by side; a single one costs no task."""
    if len(steps) == 1:
        await steps[0]
    else:
        await asyncio.gather(*steps)
