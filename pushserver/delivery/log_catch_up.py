"""Catching up with the log: what its tail holds for a user behind the cursor, at the client's own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pushserver.core.metrics import Metrics
from pushserver.delivery.connection import Connection
from pushserver.delivery.log_tail import LogTail
from pushserver.delivery.pushing import Pushing

__all__ = ["LogCatchUp", "LogCaughtUp"]

PAGE = 128
"""Messages looked up in the tail at once."""


@dataclass(frozen=True, slots=True)
class LogCaughtUp:
    """What catching up came to."""

    delivered: int
    gap: bool
    """The tail no longer held all that came since."""


class LogCatchUp:
    """Feeds one connection at a time from the tail; shared by all connections."""

    def __init__(
        self, tail: LogTail, pushing: Pushing, metrics: Metrics, moved: Callable[[str], Awaitable[None]]
    ) -> None:
        self._tail = tail
        self._pushing = pushing
        self._metrics = metrics
        self._moved = moved

    async def run(self, connection: Connection) -> LogCaughtUp | None:
        """Push until the tail holds nothing behind `log_at` for this connection; None if it closed.

        When this returns, nothing has arrived since: whoever goes live in the same turn of the loop misses
        nothing and gets nothing twice. It stops at a gap if the connection was live before: its `live` frame
        cannot tell any more, so it has to end where it stands.
        """
        delivered, gap = 0, False
        while connection.is_open():
            # What is passed over is so for good: never by categories that are the user's no more.
            await self._moved(connection.user)
            if connection.ledger.log_at < self._tail.start:
                gap = True
                self._metrics.log_gaps.inc()
                if connection.opened:
                    return LogCaughtUp(delivered, gap)
                connection.ledger.log_at = self._tail.start
            due, upto = self._tail.after(connection.ledger.log_at, connection.categories, PAGE)
            if due:
                placed = [(one.position, one.message_id) for one in due]
                # What is gone was recalled or has expired.
                pushed, _ = await self._pushing.push_all(connection, placed, "log")
                delivered += pushed
            if not connection.is_open():
                return None
            connection.ledger.log_at = max(connection.ledger.log_at, upto)
            if not due and upto >= self._tail.position:
                return LogCaughtUp(delivered, gap)
            if not due:
                # Whoever is meant by few of many messages lets others go on after each look.
                await asyncio.sleep(0)
        return None
