"""Catching up: what waits in the inbox is pushed in order, at the client's own pace.

page of ids -> contents (cache, else Redis) -> push within the window -> next page
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pushserver.core.clock import StoreClock
from pushserver.core.metrics import Metrics
from pushserver.delivery.connection import Connection
from pushserver.delivery.content import Contents
from pushserver.delivery.retry import until_stored
from pushserver.stores.inbox import Inbox, Missed, Page

__all__ = ["CatchUp", "CaughtUp"]

READ_AHEAD = 32
"""Contents that are looked up at once to begin with; twice as many each time that all of them fitted."""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What catching up came to."""

    delivered: int
    """Messages pushed."""
    missed: Missed


@dataclass(frozen=True, slots=True)
class _Step:
    pushed: int
    done: int
    """Ids that need no further look."""
    next_size: int
    """Bytes of the frame that did not fit; 0 if all did."""
    gone: list[str]


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
            pushed, gone = await self._push_all(connection, news)
            delivered += pushed
            await self._drop(connection, [*page.garbage, *gone])
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

    async def _push_all(self, connection: Connection, ids: list[str]) -> tuple[int, list[str]]:
        """Push ids in order as the window lets them out; how many went, and behind which is no content.

        Contents are looked up for what may go out now, and of large ones no more than a few too many: a
        client that waits holds none here, and costs Redis no more than twice what it is sent.
        """
        pushed, at, size, ahead = 0, 0, 0, READ_AHEAD
        gone: list[str] = []
        while at < len(ids):
            await connection.wait_for_room(size)
            if not connection.is_open():
                break
            due = ids[at : at + min(ahead, connection.room())]
            step = await self._push_some(connection, due)
            pushed, at, size = pushed + step.pushed, at + step.done, step.next_size
            gone += step.gone
            ahead = ahead * 2 if step.done == len(due) else max(1, step.done)
        return pushed, gone

    async def _push_some(self, connection: Connection, ids: list[str]) -> _Step:
        found = await until_stored(lambda: self._contents.get(ids), connection.is_open)
        if found is None or not connection.is_open():
            return _Step(0, 0, 0, [])
        messages = [message for message_id in ids if (message := found[message_id]) is not None]
        went = connection.push(messages, "offline", self._clock.now_ms(), time.monotonic())
        self._metrics.deliveries.labels("offline").inc(went)
        done, next_size = len(ids), 0
        if went < len(messages):
            done, next_size = ids.index(messages[went].id), len(messages[went].frame)
        return _Step(went, done, next_size, [one for one in ids[:done] if found[one] is None])

    async def _drop(self, connection: Connection, ids: Sequence[str | bytes]) -> None:
        """Take entries out of the inbox whose content is gone; no exposure, but counted."""
        if not ids:
            return
        user = connection.user
        dropped = await until_stored(lambda: self._inbox.drop_expired(user, ids), connection.is_open)
        self._metrics.expired.inc(dropped or 0)
