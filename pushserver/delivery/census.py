"""The census: how many connections of this pod each category has, the largest first."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Any

from pushserver.core.categories import KINDS
from pushserver.delivery.manager import Manager
from pushserver.delivery.slices import in_slices

__all__ = ["FRESH_S", "TOP", "Census"]

TOP = 10
"""Values of each kind that are named; of the others only the number is told."""
FRESH_S = 1.0
"""How long a count serves whoever asks, so that many who look cost no more than one."""


class Census:
    """Counts in slices, for there may be as many values as connections, and one count at a time."""

    def __init__(self, manager: Manager, now: Callable[[], float] = time.monotonic) -> None:
        self._manager = manager
        self._now = now
        self._turn = asyncio.Lock()
        self._counted: list[dict[str, Any]] = []
        self._counted_at = float("-inf")

    async def categories(self) -> list[dict[str, Any]]:
        """Each kind that somebody has: the number of its values, and the `TOP` with most connections.

        At most `FRESH_S` old. Connections that come and go meanwhile may be counted or not.
        """
        async with self._turn:
            if self._now() - self._counted_at >= FRESH_S:
                self._counted = await self._count()
                self._counted_at = self._now()
            return self._counted

    async def _count(self) -> list[dict[str, Any]]:
        numbers = dict.fromkeys(KINDS, 0)
        largest: dict[str, list[tuple[int, str]]] = {kind: [] for kind in KINDS}
        async for kind, value in in_slices(self._manager.categories()):
            size = self._manager.category_size(kind, value)
            if not size:
                continue  # the last one has left since
            numbers[kind] += 1
            keep = heapq.heappush if len(largest[kind]) < TOP else heapq.heappushpop
            keep(largest[kind], (size, value))
        return [
            {"kind": kind, "values": number, "top": _descending(largest[kind])}
            for kind, number in numbers.items()
            if number
        ]


def _descending(sizes: list[tuple[int, str]]) -> list[dict[str, Any]]:
    ordered = sorted(sizes, key=lambda one: (-one[0], one[1]))
    return [{"value": value, "connections": size} for size, value in ordered]
