"""Work in steps, on a loop that others use as well."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from pushserver.core.jsonwalk import Steps

__all__ = ["in_turns"]

_Result = TypeVar("_Result")


async def in_turns(steps: Steps[_Result]) -> _Result:
    """Carry out `steps`, letting the loop turn between them; raises what they raise."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: _Result = done.value
            return result
        await asyncio.sleep(0)
