"""How many events to ask for, so that they have about the bytes that are wanted."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Portion"]

FIRST_COUNT = 50


class Portion:
    """At most `most_events`, of at most about `most_bytes` by the size of those that came last.

    Begins small and doubles at most, so events that suddenly become large cost few times `most_bytes`.
    """

    __slots__ = ("_count", "_mean", "_most_bytes", "_most_events")

    def __init__(self, most_events: int, most_bytes: int) -> None:
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._count = min(FIRST_COUNT, most_events)
        self._mean = 1

    def count(self, events_left: int | None = None, bytes_left: int | None = None) -> int:
        """How many to ask for now, at least one; with room for `events_left` and `bytes_left` only."""
        count = self._count
        if events_left is not None:
            count = min(count, events_left)
        if bytes_left is not None:
            count = min(count, bytes_left // self._mean)
        return max(1, count)

    def learn(self, sizes: Sequence[int]) -> None:
        """These came."""
        if sizes:
            self._mean = sum(sizes) // len(sizes) + 1
            self._count = max(1, min(self._most_events, self._count * 2, self._most_bytes // self._mean))
