"""A loop whose time a test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

__all__ = ["Loop"]


class Loop:
    """A loop whose time is moved by hand; a turn of it runs one callback."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self._soon: list[Callable[[], None]] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self.cancelled = 0
        patch.setattr(asyncio, "get_running_loop", lambda: self)

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[[], None]) -> Loop:
        self._soon.append(callback)
        return self

    def call_at(self, when: float, callback: Callable[[], None]) -> Loop:
        self._timers.append((when, callback))
        return self

    def cancel(self) -> None:
        self.cancelled += 1
        self._soon.clear()
        self._timers.clear()

    def turn(self) -> bool:
        """Run the next callback that is due; False if there is none."""
        self._soon += [callback for when, callback in self._timers if when <= self.now]
        self._timers = [timer for timer in self._timers if timer[0] > self.now]
        if not self._soon:
            return False
        self._soon.pop(0)()
        return True

    def until(self, when: float) -> None:
        """Let time pass, in small steps, and run all that comes due."""
        while self.now < when:
            self.now = min(when, self.now + 0.05)
            while self.turn():
                pass
