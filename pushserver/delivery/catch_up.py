"""Catching up: what waits in the inbox is pushed in order, at the client's own pace.

page of ids -> contents (cache, else Redis) -> push within the window -> next page
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pushserver.core.clock import StoreClock
from pushserver.core.message import Message
from pushserver.core.metrics import Metrics
from pushserver.delivery.connection import Connection
from pushserver.delivery.content import Contents
from pushserver.delivery.retry import until_stored
from pushserver.stores.inbox import Inbox, Missed, Page

__all__ = ["CatchUp", "CaughtUp"]


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What catching up came to."""

    delivered: int
    """Messages pushed."""
    missed: Missed


class CatchUp:
    """Feeds one connection at a time from its user's inbox; shared by all connections."""

    def __init__(
        self, inbox: Inbox, contents: Contents, clock: StoreClock, metrics: Metrics, *, page: int
    ) -> None:
        self._inbox = inbox
        self._contents = contents
        self._clock = clock
        self._metrics = metrics
        self._page = page

    async def run(self, connection: Connection, first: Page | None) -> CaughtUp | None:
        """Push until the inbox holds nothing that was not sent here; None if the connection closed.

        `first` is a page that was read for this connection already. The inbox is exhausted only when a
        page is shorter than asked for and brings nothing new: entries that were pushed and are not settled
        yet stand before those that are still to come.
        """
        delivered, asked, page = 0, self._page, first
        while True:
            if page is None:
                page = await self._read(connection, asked)
            if page is None:
                return None
            news = connection.read_arrived(page.ids)
            delivered += await self._push_all(connection, news)
            await self._drop(connection, page.garbage)
            if not connection.is_open():
                return None
            if page.size < asked and not news and not page.garbage and not connection.wants_look:
                connection.upto = page.seq
                return CaughtUp(delivered, page.missed)
            asked = len(connection.sent) + self._page if news else max(asked, page.size + self._page)
            page = None

    async def _read(self, connection: Connection, count: int) -> Page | None:
        connection.read_begins()
        page = await until_stored(lambda: self._inbox.read(connection.user, count), connection.is_open)
        if page is None:
            connection.read_over()
        return page

    async def _push_all(self, connection: Connection, ids: list[str]) -> int:
        """Push ids in order as the window lets them out; answers how many went."""
        pushed, at, size = 0, 0, 0
        while at < len(ids):
            await connection.wait_for_room(size)
            if not connection.is_open():
                break
            # Contents are looked up for what may go out now: a client that waits holds no content here.
            due = ids[at : at + connection.room()]
            messages, gone = await self._resolve(connection, due)
            await self._drop(connection, gone)
            if not connection.is_open():
                break
            went = connection.push(messages, "offline", self._clock.now_ms(), time.monotonic())
            self._metrics.deliveries.labels("offline").inc(went)
            pushed += went
            size = len(messages[went].frame) if went < len(messages) else 0
            at = at + due.index(messages[went].id) if size else at + len(due)
        return pushed

    async def _resolve(self, connection: Connection, ids: list[str]) -> tuple[list[Message], list[str]]:
        """The messages behind `ids` in order, and those ids behind which there is none."""
        found = await until_stored(lambda: self._contents.get(ids), connection.is_open)
        if found is None:
            return [], []
        messages = [message for message_id in ids if (message := found[message_id]) is not None]
        return messages, [message_id for message_id in ids if found[message_id] is None]

    async def _drop(self, connection: Connection, ids: Sequence[str | bytes]) -> None:
        """Take entries out of the inbox whose content is gone; no exposure, but counted."""
        if not ids:
            return
        user = connection.user
        dropped = await until_stored(lambda: self._inbox.drop_expired(user, ids), connection.is_open)
        self._metrics.expired.inc(dropped or 0)
