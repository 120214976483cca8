"""Trying again while Redis is away: idempotent calls only."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from pushserver.core.errors import StoreError, StoreRefusedError
from pushserver.stores.faults import NOT_READY

__all__ = ["until_stored", "when_redis_answers"]

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

MAX_PAUSE_S = 2.0
PASSING = NOT_READY | {"oom"}
"""Kinds of refusal that may pass by themselves: a replica comes back, something expires."""


async def until_stored(call: Callable[[], Awaitable[Answer]], wanted: Callable[[], bool]) -> Answer | None:
    """Repeat `call` until Redis answers it, with pauses of 0.1 to 2 s; None as soon as it is not `wanted`.

    Bounded by `wanted` (an open connection, a running pod) and in rate by `Commands`, which tries a Redis
    that is away a few times a second however many callers wait.
    """
    pause = 0.1
    while wanted():
        try:
            return await call()
        except StoreError:
            # Jitter only; no secret hangs on it.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(MAX_PAUSE_S, pause * 2)
    return None


async def when_redis_answers(step: Callable[[], Awaitable[None]], give_up: float) -> None:
    """Carry out a step, again while Redis fails it, until `give_up` (monotonic seconds); then raises why.

    What no waiting heals (a wrong password, a database that is not there) is raised at once.
    """

    async def carried_out() -> tuple[StoreRefusedError | None]:
        """What refused it for good, or None; an answer either way."""
        try:
            await step()
        except StoreRefusedError as error:
            if error.kind in PASSING:
                raise
            return (error,)
        return (None,)

    try:
        outcome: tuple[StoreRefusedError | None] | None = await carried_out()
    except StoreError as error:
        left = max(0.0, give_up - time.monotonic())
        log.warning("redis.awaited", reason=error.kind, give_up_after_s=round(left, 1))
        outcome = await until_stored(carried_out, lambda: time.monotonic() < give_up)
    if outcome is None:
        # Once more, for the reason.
        await step()
    elif outcome[0] is not None:
        raise outcome[0]
