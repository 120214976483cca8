"""Guesses: how many wrong API keys one address may bring."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

__all__ = ["Guesses"]

MAX_GUESSES = 60
"""Wrong keys of one address in a minute."""
MAX_ADDRESSES = 10_000
"""Beyond these what is known begins anew: a bound of memory, which guessing from so many does not help."""


class Guesses:
    """Counts wrong keys by address, a minute at a time.

    An address that ever brought a right key may be wrong as often as it likes: one back end with an old
    key must not lock out the others behind the same proxy.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._minute = 0
        self._wrong: Counter[str] = Counter()
        self._right: set[str] = set()

    def exhausted(self, address: str) -> bool:
        """Whether nothing of this address is believed for the rest of the minute, not even a right key."""
        self._turn()
        return address not in self._right and self._wrong[address] >= MAX_GUESSES

    def wrong(self, address: str) -> None:
        """A wrong key came from there."""
        self._turn()
        if len(self._wrong) >= MAX_ADDRESSES:
            self._wrong.clear()
        self._wrong[address] += 1

    def right(self, address: str) -> None:
        """A right key came from there."""
        if len(self._right) >= MAX_ADDRESSES:
            self._right.clear()
        self._right.add(address)

    def _turn(self) -> None:
        minute = int(self._now() / 60)
        if minute != self._minute:
            self._minute = minute
            self._wrong.clear()
