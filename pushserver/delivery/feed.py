"""This pod's feed: made before presence is written, followed, and noticed when something of it was lost.

Each connection decides for itself by `seq` whether a hinted message is pushed at once: only if it is the
next one. Hints that cross, come late or get lost never break the order or double a message.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from pushserver.core.clock import StoreClock
from pushserver.core.errors import StoreError
from pushserver.core.message import Message
from pushserver.core.metrics import Metrics
from pushserver.delivery.connection import Connection, State
from pushserver.delivery.content import Contents
from pushserver.delivery.manager import Manager
from pushserver.delivery.retry import until_stored
from pushserver.delivery.slices import in_slices
from pushserver.stores.feed import FeedStore
from pushserver.stores.feed_entry import Ask, FeedEntry, Hint, Hints, Kick, Push, Recategorize

__all__ = ["Feed"]

log = structlog.get_logger(__name__)

READ_AT_ONCE = 100
"""Entries read in one round trip."""
PAUSE_S = 0.2
"""Between two reads while Redis does not answer."""
CATCH_UP_S = 1.0
"""How long `caught_up` waits at most: the feed may be on a node that is away, and others are not."""


class Feed:
    """Follows the feed and does what it says.

    `on_gap` is called when entries may have been lost: then every inbox has to be looked at. `absent` is
    called with a user who was hinted at and is not here: presence is stale.
    """

    def __init__(
        self,
        store: FeedStore,
        manager: Manager,
        contents: Contents,
        *,
        clock: StoreClock,
        metrics: Metrics,
        look_again: Callable[[Connection], None],
        pushed: Callable[[Connection], None],
        absent: Callable[[str], None],
        kick: Callable[[str], None],
        recategorize: Callable[[str], None],
        recategorized: Callable[[], Awaitable[None]],
        on_gap: Callable[[], None],
        asked: Callable[[Ask], None] = lambda ask: None,
    ) -> None:
        self._store = store
        self._manager = manager
        self._contents = contents
        self._clock = clock
        self._metrics = metrics
        self._look_again = look_again
        self._pushed = pushed
        self._absent = absent
        self._kick = kick
        self._recategorize = recategorize
        self._recategorized = recategorized
        self._on_gap = on_gap
        self._asked = asked
        self._position = 0
        self._taken = 0
        """What is up to here in the feed was done."""
        self._took = asyncio.Event()
        self._boot = 0

    # -- never missing anything unnoticed

    async def open(self, boot: int) -> None:
        """Make the feed anew under a new boot: before presence is written, or hints would find no feed.

        Raises `StoreError`.
        """
        position = await self._store.open(boot)
        if position is not None:
            self._position = self._taken = position
            self._boot = boot

    async def check(self, first: int | None) -> None:
        """What the heartbeat saw of the feed: the position of its first entry, None if there is none.

        Raises `StoreError` when it is to be made anew and cannot.
        """
        if first is not None and first <= self._position:
            return
        self._tell_gap(lost=first is None)
        if first is None:
            await self.open(self._boot)
        self._on_gap()

    async def _is_trimmed(self, after: int) -> bool:
        first = await self._store.first()
        return first is None or first > after

    def _tell_gap(self, *, lost: bool) -> None:
        log.warning("feed.gap", lost=lost)
        self._metrics.feed_gaps.inc()

    # -- following

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                entries = await self._store.read(self._position, READ_AT_ONCE)
                # Only a long feed is trimmed, so only a full page may lie behind a gap. Once it was taken,
                # the heartbeat would not see that any more.
                trimmed = len(entries) == READ_AT_ONCE and await self._is_trimmed(self._position)
            except StoreError as error:
                self._metrics.redis_errors.labels(error.kind).inc()
                await asyncio.sleep(PAUSE_S)
                continue
            if trimmed:
                self._tell_gap(lost=False)
                self._on_gap()
            for position, _ in entries:
                # A feed that was made anew meanwhile begins further on.
                self._position = max(self._position, position)
            self._metrics.feed_entries.inc(len(entries))
            await self._take([entry for _, entry in entries if entry is not None])
            if entries:
                self._taken = max(self._taken, entries[-1][0])
                self._took.set()

    async def caught_up(self) -> None:
        """Return when all was done that is in the feed at the time of the call, or after a second."""
        give_up_at = time.monotonic() + CATCH_UP_S
        last = await until_stored(self._store.last, lambda: time.monotonic() < give_up_at)
        with suppress(TimeoutError):
            async with asyncio.timeout(give_up_at - time.monotonic()):
                while self._taken < (last or 0):
                    self._took.clear()
                    await self._took.wait()

    async def _take(self, entries: Sequence[FeedEntry]) -> None:
        hints: list[Hint] = []
        for entry in entries:
            if isinstance(entry, Hints):
                for message_id, (text, expires_at) in entry.texts.items():
                    self._contents.warm(message_id, text, expires_at)
                hints += entry.hints
        await self._take_hints(hints)
        for entry in entries:
            match entry:
                case Push():
                    await self._push(entry)
                case Kick(user):
                    self._kick(user)
                case Recategorize(user):
                    self._recategorize(user)
                case Ask():
                    self._asked(entry)

    # -- hints

    async def _take_hints(self, hints: Sequence[Hint]) -> None:
        of: defaultdict[str, list[Hint]] = defaultdict(list)
        for hint in hints:
            of[hint.user].append(hint)
        async for user, due in in_slices(of.items(), lambda item: len(item[1])):
            connections = self._manager.of(user)
            if not connections:
                self._absent(user)
            for connection in connections:
                self._hinted(connection, due)

    def _hinted(self, connection: Connection, hints: Sequence[Hint]) -> None:
        """Push what comes next here; anything else means that the inbox has to be looked at.

        What this connection has seen already (a hint that was repeated, or came late) means nothing.
        """
        if connection.state is not State.LIVE:
            self._owe(connection, hints)
            return
        due, upto = self._next(connection, hints)
        pushed = connection.push(due, "live", self._clock.now_ms(), time.monotonic()) if due else 0
        self._metrics.deliveries_live.inc(pushed)
        connection.upto += pushed
        if pushed < len(due) or upto < max(hint.seq for hint in hints):
            self._owe(connection, hints)

    def _owe(self, connection: Connection, hints: Sequence[Hint]) -> None:
        """It gets them from the inbox, or all the same if another connection is quicker to settle them."""
        forgotten = connection.owe((hint.seq, hint.message_id) for hint in hints)
        self._metrics.overtaken.inc(forgotten)
        self._look_again(connection)

    def _next(self, connection: Connection, hints: Sequence[Hint]) -> tuple[list[Message], int]:
        """The messages that follow, without a gap, on what the connection has seen; and the sequence then."""
        due: list[Message] = []
        upto = connection.upto
        for hint in sorted(hints, key=lambda hint: hint.seq):
            if hint.seq <= upto:
                continue
            if hint.seq > upto + 1 or hint.message_id in connection.ledger.sent:
                break
            message = self._contents.cached(hint.message_id)
            if message is None:
                break
            due.append(message)
            upto += 1
        return due, upto

    # -- for the live only

    async def _push(self, entry: Push) -> None:
        if entry.categories is not None:
            await self._recategorized()
        message = self._contents.parse(entry.message_id, entry.text)
        if message is None:
            return
        now_ms, taken, dropped = self._clock.now_ms(), 0, 0
        async for connection in in_slices(self._meant(entry)):
            if connection.push_live_only(message, now_ms, time.monotonic()):
                taken += 1
                self._pushed(connection)
            else:
                dropped += 1
        self._metrics.deliveries_live.inc(taken)
        self._metrics.live_only.labels("pushed").inc(taken)
        self._metrics.live_only.labels("dropped").inc(dropped)

    def _meant(self, entry: Push) -> list[Connection]:
        if entry.categories is not None:
            return self._manager.matching(entry.categories)
        return [connection for user in entry.users for connection in self._manager.of(user)]
