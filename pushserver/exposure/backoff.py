"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """Waiting times that double from `first_s` to `most_s`, each up to a quarter longer by chance.

    Chance only lengthens: after enough failures no two tries are closer than `most_s`, and pods that
    failed together do not try again together.
    """

    __slots__ = ("_chance", "_first_s", "_most_s", "_next_s")

    def __init__(self, first_s: float, most_s: float, chance: Callable[[], float] = random.random) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s
        self._chance = chance

    def next_s(self) -> float:
        """Seconds to wait now; the next answer is longer."""
        wait_s = self._next_s
        self._next_s = min(wait_s * 2, self._most_s)
        return wait_s * (1 + self._chance() / 4)

    def reset(self) -> None:
        """It worked: begin with `first_s` again."""
        self._next_s = self._first_s
