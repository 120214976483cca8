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

    __slots__ = ("boots", "done", "hints", "size", "texts")

    def __init__(self) -> None:
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


class Feeds:
    """Appends to pods' feeds. A pod that is dead is taken out of the presence of who was to be hinted."""

    def __init__(self, store: FeedStore, presence: PresenceStore, metrics: Metrics, tasks: Tasks) -> None:
        self._store = store
        self._presence = presence
        self._metrics = metrics
        self._tasks = tasks
        self._outboxes: dict[str, deque[_Batch]] = {}
        self._stuck: set[str] = set()
        """Pods whose next entry has failed and is tried again: nobody waits behind it."""
        self.waiting = 0
        """Hints that were not sent yet."""

    async def hint(self, hint_at: Iterable[tuple[Hint, Mapping[str, int]]], text: Text | None) -> None:
        """Hint at pods (each with its boot in the user's presence), all for one message.

        Returns when every hint was tried once, or stands behind one that failed. Those are tried again for
        half a minute behind the caller's back; if that fails, too, the rescan finds the message.
        """
        tried: set[asyncio.Future[None]] = set()
        for hint, pods in hint_at:
            for pod, boot in pods.items():
                if self.waiting >= MAX_WAITING:
                    self._metrics.hints.labels("dropped").inc()
                else:
                    tried.add(self._put(pod, hint, boot, text))
        if tried:
            await asyncio.wait(tried)

    async def tell(self, pods: Iterable[str], entry: FeedEntry) -> list[str]:
        """Tell pods; answers which of them were reached. Raises `StoreError`, when some may have been."""
        names = list(pods)
        answers = await asyncio.gather(*(self._store.append(pod, entry) for pod in names))
        return [pod for pod, reach in zip(names, answers, strict=True) if reach is Reach.TAKEN]

    def _put(self, pod: str, hint: Hint, boot: int, text: Text | None) -> asyncio.Future[None]:
        outbox = self._outboxes.get(pod)
        if outbox is None:
            outbox = self._outboxes[pod] = deque()
            self._tasks.spawn(self._send_all(pod, outbox), "hints")
        if not outbox or not outbox[-1].has_room(text):
            outbox.append(_Batch())
        outbox[-1].add(hint, boot, text)
        self.waiting += 1
        if pod in self._stuck:
            _resolve(outbox[-1])
        return outbox[-1].done

    async def _send_all(self, pod: str, outbox: deque[_Batch]) -> None:
        """One entry at a time; what comes meanwhile goes in the next."""
        try:
            while outbox:
                batch = outbox.popleft()
                self.waiting -= len(batch.hints)
                await self._send(pod, batch, outbox)
        finally:
            del self._outboxes[pod]
            for batch in outbox:
                self.waiting -= len(batch.hints)
                _resolve(batch)

    async def _send(self, pod: str, batch: _Batch, behind: Iterable[_Batch]) -> None:
        give_up = time.monotonic() + GIVE_UP_S
        try:
            while True:
                try:
                    reach = await self._store.append(pod, Hints(batch.hints, batch.texts))
                    break
                except StoreError:
                    self._stuck.add(pod)
                    for waited_for in (batch, *behind):
                        _resolve(waited_for)
                    if time.monotonic() > give_up:
                        self._metrics.hints.labels("failed").inc(len(batch.hints))
                        return
                    await asyncio.sleep(PAUSE_S * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            self._metrics.hints.labels(reach.name.lower()).inc(len(batch.hints))
            if reach is Reach.DEAD:
                await self._bury(pod, batch)
        finally:
            self._stuck.discard(pod)
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
