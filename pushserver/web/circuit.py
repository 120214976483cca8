"""A circuit: who does not answer is not asked by everybody, but now and then by one."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Circuit"]

FAILURES = 5
"""In a row, after which nobody is asked for a while."""
PAUSE_S = 1.0


class Circuit:
    """Counts failures in a row. `clock` tells monotonic seconds."""

    __slots__ = ("_clock", "_failures", "_next_try")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._next_try = 0.0

    @property
    def broken(self) -> bool:
        """Whether only one in a second may try."""
        return self._failures >= FAILURES

    def may_try(self) -> bool:
        """Whether to ask now. Asking counts as trying: while it is broken the next one may a second later."""
        if not self.broken:
            return True
        now = self._clock()
        if now < self._next_try:
            return False
        self._next_try = now + PAUSE_S
        return True

    def worked(self) -> None:
        """There was an answer: everybody may ask."""
        self._failures = 0

    def failed(self) -> None:
        """There was none."""
        self._failures += 1
        if self._failures == FAILURES:
            self._next_try = self._clock() + PAUSE_S
