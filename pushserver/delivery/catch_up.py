"""Catching up: what waits in the inbox is pushed in order, at the client's own pace.

page of ids -> contents (cache, else Redis) -> push within the window -> next page
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pushserver.core.metrics import Metrics
from pushserver.delivery.connection import Connection
from pushserver.delivery.content import Contents
from pushserver.delivery.pushing import Pushing
from pushserver.delivery.retry import until_stored
from pushserver.delivery.sent import INBOX
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
        self, inbox: Inbox, contents: Contents, pushing: Pushing, metrics: Metrics, *, page: int
    ) -> None:
        self._inbox = inbox
        self._contents = contents
        self._pushing = pushing
        self._metrics = metrics
        self._page = page

    async def run(self, connection: Connection, first: Page | None) -> CaughtUp | None:
        """Push until the inbox holds nothing that was not sent here; None if the connection closed.

        `first` is a page that was read for this connection already. What was hinted at since it came and is
        not in the inbox any more was settled by another connection of the user: that is pushed as well.

        The inbox is exhausted only when a page is shorter than asked for and brings nothing new: entries that
        were pushed and are not settled yet stand before those that are still to come.
        """
        delivered, asked, page = 0, self._page, first
        while True:
            if page is None:
                page = await self._read(connection, asked)
            if page is None:
                return None
            news = connection.read_arrived(page.ids)
            whole = page.size < asked
            if connection.upto < 0:
                # What was settled before this connection came is not owed to it.
                connection.upto = page.seq
            if whole:
                news = _with_owed(news, connection.take_owed(page.seq), set(page.ids))
            due = [(INBOX, message_id) for message_id in news]
            pushed, gone = await self._pushing.push_all(connection, due, "offline")
            delivered += pushed
            await self._drop(connection, [*page.garbage, *gone])
            if not connection.is_open():
                return None
            if whole:
                connection.upto = page.seq
                if not news and not page.garbage and not connection.wants_look:
                    return CaughtUp(delivered, page.missed)
            asked = len(connection.ledger.sent) + self._page if news else max(asked, page.size + self._page)
            page = None

    async def _read(self, connection: Connection, count: int) -> Page | None:
        connection.read_begins()
        page = await until_stored(lambda: self._inbox.read(connection.user, count), connection.is_open)
        if page is None:
            connection.read_over()
        return page

    async def _drop(self, connection: Connection, ids: Sequence[str | bytes]) -> None:
        """Take entries out of the inbox whose content is gone; no exposure, but counted."""
        if not ids:
            return
        user, inbox = connection.user, self._inbox
        recalled = [one for one in ids if isinstance(one, str) and self._contents.was_recalled(one)]
        expired = [one for one in ids if one not in recalled]
        for gone, drop, counter in (
            (recalled, inbox.drop_recalled, self._metrics.recalled),
            (expired, inbox.drop_expired, self._metrics.expired),
        ):
            if gone:
                dropped = await until_stored(lambda: drop(user, gone), connection.is_open)  # noqa: B023 - awaited here
                counter.inc(dropped or 0)


def _with_owed(news: Sequence[str], owed: Mapping[str, int], waiting: Collection[str]) -> list[str]:
    """What is new in the inbox, and among it, by its sequence, what another connection has settled meanwhile.

    Of what is in the inbox the sequence is known only where it was hinted at as well.
    """
    settled = deque(sorted((seq, one) for one, seq in owed.items() if one not in waiting))
    due: list[str] = []
    for message_id in news:
        while settled and settled[0][0] < owed.get(message_id, 0):
            due.append(settled.popleft()[1])
        due.append(message_id)
    return due + [message_id for _, message_id in settled]
