"""One clock for every time that leaves the process: Redis' time, never this host's."""

from __future__ import annotations

import time

__all__ = ["StoreClock"]


class StoreClock:
    """Redis' wall clock in milliseconds, kept between heartbeats by this host's monotonic clock.

    A jump of the host's wall clock moves nothing here. Until the first `adjust` it tells the host's time.
    """

    __slots__ = ("_offset_ms",)

    def __init__(self) -> None:
        self._offset_ms = time.time() * 1000 - time.monotonic() * 1000

    def adjust(self, store_ms: int) -> None:
        """Take over `store_ms`, the milliseconds since 1970 that Redis has just told."""
        self._offset_ms = store_ms - time.monotonic() * 1000

    def now_ms(self) -> int:
        """Milliseconds since 1970 by Redis' clock."""
        return int(time.monotonic() * 1000 + self._offset_ms)

    def now_s(self) -> float:
        """Seconds since 1970 by Redis' clock."""
        return time.monotonic() + self._offset_ms / 1000
