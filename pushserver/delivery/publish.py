"""Publish to users: content first, then each inbox; whoever reads presence does so after the append."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from pushserver.core.clock import StoreClock
from pushserver.core.message import message_text
from pushserver.core.metrics import Metrics
from pushserver.core.names import check_message_id, check_username
from pushserver.stores.content import ContentStore
from pushserver.stores.inbox import Appended, Inbox

__all__ = ["Publisher"]

SLICE = 1000
"""Users whose appends are begun in one callback of the loop."""


class Publisher:
    """Stores messages for users, online or away."""

    def __init__(self, contents: ContentStore, inbox: Inbox, clock: StoreClock, metrics: Metrics) -> None:
        self._contents = contents
        self._inbox = inbox
        self._clock = clock
        self._metrics = metrics

    def new_id(self) -> str:
        """An id that sorts by time: milliseconds in hex, then 64 random bits."""
        return f"{self._clock.now_ms():011x}-{secrets.token_hex(8)}"

    async def to_users(
        self, users: Sequence[str], content: Any, *, message_id: str, ttl_s: int
    ) -> list[Appended]:
        """Store a message in the inbox of each user; an answer for each, in order.

        Repeating the same id completes what an earlier call began, and reaches nobody twice. Raises
        `InvalidNameError`, `ValueError` for content that is not JSON, or `StoreError` (then some inboxes
        may have it).
        """
        check_message_id(message_id)
        for user in users:
            check_username(user)
        text = message_text(message_id, self._clock.now_ms(), content)
        await self._contents.write(message_id, text, ttl_s)
        appended: list[Appended] = []
        for start in range(0, len(users), SLICE):
            some = users[start : start + SLICE]
            appended += await asyncio.gather(*(self._inbox.append(user, message_id, ttl_s) for user in some))
        self._metrics.evicted.inc(sum(one.evicted for one in appended))
        return appended
