"""Telling pods: hints and orders on their way to the pods' feeds.

Hints of one turn of the loop, and those that come while an entry is on its way, share the next entry.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterable, Mapping

from pushserver.core.errors import StoreError
from pushserver.core.metrics import Metrics
from pushserver.delivery.tasks import Tasks
from pushserver.stores.feed import FeedStore, Reach
from pushserver.stores.feed_entry import FeedEntry, Hint, Hints
from pushserver.stores.presence import PresenceStore

__all__ = ["Feeds", "Text"]

MAX_HINTS = 500
"""Hints in an entry."""
MAX_BYTES = 256 * 1024
"""Bytes of texts in an entry, but for a single one."""
MAX_WAITING = 100_000
"""Hints that wait to be sent; beyond, the rescan has to find the messages."""
GIVE_UP_S = 30.0
"""How long hints are tried again; by then the rescan has found the messages."""
PAUSE_S = 0.2

Text = tuple[bytes, int]
"""The text of a small message, and when it goes away in milliseconds since 1970."""


class _Batch:
    """What goes in one entry."""

    __slots__ = ("boots", "done", "give_up_at", "hints", "size", "texts")

    def __init__(self) -> None:
        self.give_up_at = time.monotonic() + GIVE_UP_S
        self.hints: list[Hint] = []
        self.boots: list[int] = []
        self.texts: dict[str, Text] = {}
        self.size = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Resolved when it was tried for the first time, whatever came of it."""

    def add(self, hint: Hint, boot: int, text: Text | None) -> None:
        self.hints.append(hint)
        self.boots.append(boot)
        if text is not None and hint.message_id not in self.texts:
            self.texts[hint.message_id] = text
            self.size += len(text[0])

    def has_room(self, text: Text | None) -> bool:
        size = self.size + (len(text[0]) if text else 0)
        return len(self.hints) < MAX_HINTS and size <= MAX_BYTES


class _Outbox:
    """What waits for one pod."""

    __slots__ = ("batches", "failing")

    def __init__(self) -> None:
        self.batches: deque[_Batch] = deque()
        self.failing = False
        """The latest try failed: nobody waits for what is put here, for it is as good as tried."""

    def failed(self) -> None:
        self.failing = True
        for batch in self.batches:
            _resolve(batch)


class Feeds:
    """Appends to pods' feeds. A pod that is dead is taken out of the presence of who was to be hinted."""

    def __init__(self, store: FeedStore, presence: PresenceStore, metrics: Metrics, tasks: Tasks) -> None:
        self._store = store
        self._presence = presence
        self._metrics = metrics
        self._tasks = tasks
        self._outboxes: dict[str, _Outbox] = {}
        self.waiting = 0
        """Hints that were not sent yet."""

    async def hint(self, hint_at: Iterable[tuple[Hint, Mapping[str, int]]], text: Text | None) -> None:
        """Hint at pods (each with its boot in the user's presence), all for one message.

        Returns when every hint was tried once, or one before it to the same pod failed. What failed is tried
        again for half a minute behind the caller's back; if that fails, too, the rescan finds the message.
        """
        tried: set[asyncio.Future[None]] = set()
        for hint, pods in hint_at:
            for pod, boot in pods.items():
                if self.waiting >= MAX_WAITING:
                    self._metrics.hints.labels("dropped").inc()
                else:
                    tried.add(self._put(pod, hint, boot, text))
        for one in tried:
            # Others wait for the same: who is cancelled must not cancel it.
            await asyncio.shield(one)

    async def tell(self, pods: Iterable[str], entry: FeedEntry) -> list[str]:
        """Tell pods; answers which of them were reached. Raises `StoreError`, when some may have been."""
        names = list(pods)
        answers = await asyncio.gather(*(self._store.append(pod, entry) for pod in names))
        return [pod for pod, reach in zip(names, answers, strict=True) if reach is Reach.TAKEN]

    def _put(self, pod: str, hint: Hint, boot: int, text: Text | None) -> asyncio.Future[None]:
        outbox = self._outboxes.get(pod)
        if outbox is None:
            outbox = self._outboxes[pod] = _Outbox()
            task = self._tasks.spawn(self._send_all(pod, outbox), "hints")
            # A task that is cancelled before its first step tidies nothing up.
            task.add_done_callback(lambda _: self._over(pod, outbox))
        if not outbox.batches or not outbox.batches[-1].has_room(text):
            outbox.batches.append(_Batch())
        batch = outbox.batches[-1]
        batch.add(hint, boot, text)
        self.waiting += 1
        if outbox.failing:
            _resolve(batch)
        return batch.done

    async def _send_all(self, pod: str, outbox: _Outbox) -> None:
        """One entry at a time; what comes meanwhile goes in the next."""
        try:
            while outbox.batches:
                batch = outbox.batches.popleft()
                self.waiting -= len(batch.hints)
                await self._send(pod, batch, outbox)
        finally:
            self._over(pod, outbox)

    def _over(self, pod: str, outbox: _Outbox) -> None:
        """Nobody sends from this outbox any more. Twice is once."""
        if self._outboxes.get(pod) is outbox:
            del self._outboxes[pod]
        while outbox.batches:
            batch = outbox.batches.popleft()
            self.waiting -= len(batch.hints)
            _resolve(batch)

    async def _send(self, pod: str, batch: _Batch, outbox: _Outbox) -> None:
        try:
            while True:
                try:
                    reach = await self._store.append(pod, Hints(batch.hints, batch.texts))
                    break
                except StoreError:
                    _resolve(batch)
                    outbox.failed()
                    if time.monotonic() > batch.give_up_at:
                        self._metrics.hints.labels("failed").inc(len(batch.hints))
                        return
                    await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            outbox.failing = False
            self._metrics.hints.labels(reach.name.lower()).inc(len(batch.hints))
            if reach is Reach.DEAD:
                await self._bury(pod, batch)
        finally:
            _resolve(batch)

    async def _bury(self, pod: str, batch: _Batch) -> None:
        """Remove stale presence fields, if their boots are still those that were read."""
        removals = (
            self._presence.remove(boot, hint.user, pod)
            for hint, boot in zip(batch.hints, batch.boots, strict=True)
        )
        await asyncio.gather(*removals, return_exceptions=True)


def _resolve(batch: _Batch) -> None:
    if not batch.done.done():
        batch.done.set_result(None)
