"""Waiting for several coroutines at once within one task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

__all__ = ["at_once"]

_A = TypeVar("_A")
_B = TypeVar("_B")
_C = TypeVar("_C")
_T = TypeVar("_T")


async def at_once(
    first: Coroutine[Any, Any, _A], second: Coroutine[Any, Any, _B], third: Coroutine[Any, Any, _C]
) -> tuple[_A, _B, _C]:
    """The results of all three, which wait at the same time, as `asyncio.gather` has it.

    All of them begin before any is waited for, so what they ask of Redis goes out together. Where they
    differ from `gather`: there is no task for each (which would cost as much as what they do), and when one
    fails the others are closed.
    """
    begun: list[_Begun[Any]] = []
    try:
        for coroutine in (first, second, third):
            begun.append(_Begun(coroutine))
        return await begun[0], await begun[1], await begun[2]
    finally:
        # Without effect on those that have ended.
        for coroutine in (first, second, third):
            coroutine.close()


class _Begun(Generic[_T]):
    """A coroutine that has been run up to its first wait, and goes on when this is awaited."""

    __slots__ = ("_coroutine", "_result", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, _T]) -> None:
        self._coroutine = coroutine
        self._result: tuple[_T] | None = None
        self._waits_for: Any = None
        """The future that the coroutine waits for; None if it only lets others go on."""
        self._go_on(coroutine.send, None)

    def __await__(self) -> Generator[Any, Any, _T]:
        while self._result is None:
            # In no variable of this frame: the future's error would know the frame by its traceback, and
            # the frame the future: a circle, with all that waited.
            try:
                if not asyncio.isfuture(self._waits_for):
                    yield self._waits_for
                # What was answered in the same moment as another needs no turn of the loop.
                elif not self._waits_for.done():
                    self._waits_for._asyncio_future_blocking = True
                    yield self._waits_for
            except BaseException as error:
                self._go_on(self._coroutine.throw, error)
            else:
                self._go_on(self._coroutine.send, None)
        return self._result[0]

    def _go_on(self, step: Callable[[Any], Any], value: Any) -> None:
        self._waits_for = None
        try:
            waits_for = self._waits_for = step(value)
        except StopIteration as end:
            self._result = (end.value,)
        else:
            if asyncio.isfuture(waits_for):
                # As a task has it: the mark says that somebody is about to wait, which is not yet so.
                waits_for._asyncio_future_blocking = False
        finally:
            # An error that was thrown in would know this frame as well.
            del value
