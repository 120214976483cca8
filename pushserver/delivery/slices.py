"""Work over many connections in slices, so that it never holds the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TypeVar

__all__ = ["SLICE", "in_slices", "slices"]

SLICE = 500
"""Connections that are pushed to in one callback of the loop, or messages: some 5 ms."""

Item = TypeVar("Item")


async def slices(items: Sequence[Item]) -> AsyncIterator[Sequence[Item]]:
    """The items, `SLICE` of them at a time, with a turn for everybody else between two slices.

    They must not change meanwhile: a snapshot, or what nobody else has.
    """
    for start in range(0, len(items), SLICE):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + SLICE]


async def in_slices(
    items: Iterable[Item], weight: Callable[[Item], int] = lambda item: 1
) -> AsyncIterator[Item]:
    """The items, with a turn for everybody else after some that weigh `SLICE` together.

    They must not change meanwhile: a snapshot, or what nobody else has.
    """
    done = 0
    for item in items:
        if done >= SLICE:
            await asyncio.sleep(0)
            done = 0
        yield item
        done += weight(item)
