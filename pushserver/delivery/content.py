"""Contents through a cache of finished frames, bounded in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from cachetools import LRUCache, TTLCache

from pushserver.core.clock import StoreClock
from pushserver.core.errors import InvalidContentError, RecalledError
from pushserver.core.message import Message, frame_of
from pushserver.core.metrics import Metrics
from pushserver.stores.content import ContentStore, StoredContent

__all__ = ["Contents"]

log = structlog.get_logger(__name__)

RECALLED_MAX = 10_000
RECALLED_S = 600
"""Recalls that are remembered, and for how long: far longer than a text is on its way."""

ANOTHER_MS = 500
"""A message that got an old one's id expires a second later at least; a time read is off by a round trip."""
ENTRY_OVERHEAD = 400
"""Bytes of an entry besides its frame: the objects and the cache's links, measured with tracemalloc."""


class Contents:
    """Resolves message ids to finished frames; those of `deflate_from` bytes may be compressed as well.

    Concurrent misses of one id make one read, misses of one turn of the loop one pipeline.
    """

    def __init__(
        self,
        store: ContentStore,
        clock: StoreClock,
        metrics: Metrics,
        *,
        cache_bytes: int,
        max_bytes: int,
        deflate_from: int | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._deflate_from = deflate_from
        # One bound method for all of them.
        self._on_deflated = self._deflated
        self._cache: LRUCache[str, tuple[Message, int | None]] = LRUCache(cache_bytes, getsizeof=_size)
        self._loading: dict[str, asyncio.Task[Message | None]] = {}
        self._recalled: TTLCache[str, None] = TTLCache(RECALLED_MAX, RECALLED_S)
        """Ids whose texts may still be on their way here, with a hint or in an answer."""

    async def get(self, ids: Sequence[str]) -> dict[str, Message | None]:
        """The message behind each id; None where the content is gone or no client could read it.

        Raises `StoreError`: that Redis does not answer never counts as gone.
        """
        found: dict[str, Message | None] = {}
        missing: dict[str, asyncio.Task[Message | None]] = {}
        for message_id in ids:
            cached = self.cached(message_id)
            if cached is not None:
                found[message_id] = cached
            else:
                missing[message_id] = self._load(message_id)
        self._metrics.cache_hits.inc(len(found))
        self._metrics.cache_misses.inc(len(missing))
        for message_id, task in missing.items():
            # Shielded: the read is shared, so a waiter that leaves must not cancel it.
            found[message_id] = await asyncio.shield(task)
        return found

    def cached(self, message_id: str) -> Message | None:
        """The message if it is in the cache and has not gone away."""
        entry = self._cache.get(message_id)
        if entry is None:
            return None
        message, expires_at = entry
        if expires_at is not None and expires_at <= self._clock.now_ms():
            del self._cache[message_id]
            return None
        return message

    def warm(self, message_id: str, text: bytes, expires_at: int) -> Message | None:
        """A content that came with a hint or with the log, into the cache; None if no client could read it.

        `expires_at` is when it goes away, in milliseconds since 1970.
        """
        held = self._cache.get(message_id)
        if held is not None and held[1] is not None and expires_at - held[1] >= ANOTHER_MS:
            # Gone by Redis' clock, which may be ahead of ours, and the id given to another message.
            del self._cache[message_id]
        return self.cached(message_id) or self._checked(message_id, StoredContent(text, expires_at))

    def recall(self, message_id: str) -> None:
        """The message was recalled: from now on it is gone."""
        self._cache.pop(message_id, None)
        self._recalled[message_id] = None

    def was_recalled(self, message_id: str) -> bool:
        """Whether a content that is gone was recalled, a short while ago or when it was last read."""
        return message_id in self._recalled

    def _load(self, message_id: str) -> asyncio.Task[Message | None]:
        task = self._loading.get(message_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._read(message_id), name="content read")
            self._loading[message_id] = task
            task.add_done_callback(lambda done: self._loaded(message_id, done))
        return task

    def _loaded(self, message_id: str, task: asyncio.Task[Message | None]) -> None:
        del self._loading[message_id]
        if not task.cancelled():
            # Seen by those who wait for it; if all of them left, there is nobody to tell.
            task.exception()

    async def _read(self, message_id: str) -> Message | None:
        try:
            stored = await self._store.read(message_id)
        except RecalledError:
            self.recall(message_id)
            return None
        return None if stored is None else self._checked(message_id, stored)

    def _checked(self, message_id: str, stored: StoredContent) -> Message | None:
        message = self.parse(message_id, stored.text)
        if message is not None:
            self._remember(message, stored)
        return message

    def parse(self, message_id: str, text: bytes) -> Message | None:
        """The message of a text that is not kept; None if it was recalled or no client could read it."""
        if self.was_recalled(message_id):
            return None
        try:
            return frame_of(message_id, text, self._max_bytes, self._deflates(text))
        except InvalidContentError as error:
            self._metrics.invalid.inc()
            log.warning("content.invalid", message_id=message_id, reason=error.reason)
            return None

    def _deflates(self, text: bytes) -> Callable[[Message], None] | None:
        if self._deflate_from is None or len(text) < self._deflate_from:
            return None
        return self._on_deflated

    def _deflated(self, message: Message) -> None:
        """It has a compressed frame now, which counts as well."""
        self._metrics.deflated.inc()
        entry = self._cache.pop(message.id, None)
        if entry is not None:
            self._remember_entry(entry)

    def _remember(self, message: Message, stored: StoredContent) -> None:
        self._remember_entry((message, stored.expires_at))

    def _remember_entry(self, entry: tuple[Message, int | None]) -> None:
        if _size(entry) <= self._cache.maxsize:
            self._cache[entry[0].id] = entry

    async def close(self) -> None:
        """Give up the reads under way."""
        reads = list(self._loading.values())
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)

    @property
    def bytes(self) -> int:
        """Bytes held by the cache."""
        return int(self._cache.currsize)


def _size(entry: tuple[Message, int | None]) -> int:
    return entry[0].size + ENTRY_OVERHEAD
