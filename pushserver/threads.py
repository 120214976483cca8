"""Threads for what may block: none of them holds up the exit of a pod."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["DaemonThreads"]


class DaemonThreads(ThreadPoolExecutor):
    """Runs each call in a thread of its own that is left behind at the exit.

    asyncio's own executor is waited for without a bound when the loop ends, and once more by the interpreter:
    a resolver that hangs would hold a pod beyond its grace period. Who calls bounds how many there are: each
    connection to be opened looks up one name.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Begin the call."""
        future: Future[Any] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                # It is raised where the result is waited for.
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, name=getattr(fn, "__name__", "call"), daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nobody is waited for."""
