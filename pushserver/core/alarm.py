"""A log line now and then for a state that lasts."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Alarm"]


class Alarm:
    """Says whether a line is due: at once, then at most one in `every_s` seconds."""

    __slots__ = ("_clock", "_every_s", "_quiet_until")

    def __init__(self, every_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._quiet_until = float("-inf")

    def due(self) -> bool:
        """Whether to write a line now; asking counts as writing it."""
        now = self._clock()
        if now < self._quiet_until:
            return False
        self._quiet_until = now + self._every_s
        return True
