"""Back-off: how long to wait before the next try, so that many who failed together do not return together."""

from __future__ import annotations

from random import Random

__all__ = ["Backoff"]


class Backoff:
    """Exponential back-off with full jitter between two bounds (AWS, "Exponential Backoff And Jitter").

    The first delay is drawn from `min_s` to twice that, and the range doubles with each try up to
    `max_s`. Seed `random` to know what will be drawn.
    """

    __slots__ = ("_ceiling_s", "_max_s", "_min_s", "_random")

    def __init__(self, min_s: float, max_s: float, random: Random) -> None:
        self._random = random
        self.set_bounds(min_s, max_s)

    def set_bounds(self, min_s: float, max_s: float) -> None:
        """Take other bounds (seconds), and begin anew. Raises `ValueError` unless 0 < `min_s` <= `max_s`."""
        if not 0 < min_s <= max_s:
            raise ValueError("back-off needs 0 < min_s <= max_s")
        self._min_s = min_s
        self._max_s = max_s
        self.reset()

    def reset(self) -> None:
        """Begin anew, after a try that succeeded."""
        self._ceiling_s = self._min_s

    def next_s(self) -> float:
        """Seconds to wait before the next try."""
        # Doubled step by step: a power of the number of tries would overflow in a long outage.
        self._ceiling_s = min(self._max_s, self._ceiling_s * 2)
        return self._random.uniform(self._min_s, self._ceiling_s)
