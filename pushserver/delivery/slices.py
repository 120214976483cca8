"""Work over many connections in slices, so that it never holds the loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

__all__ = ["SLICE", "in_slices"]

SLICE = 500
"""Connections that are served in one callback of the loop: some 5 ms."""

Item = TypeVar("Item")


async def in_slices(items: Iterable[Item]) -> AsyncIterator[Item]:
    """The items, with a turn for everybody else after each `SLICE` of them.

    They must not change meanwhile: a snapshot, or what nobody else has.
    """
    for number, item in enumerate(items):
        if number and number % SLICE == 0:
            await asyncio.sleep(0)
        yield item
