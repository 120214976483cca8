"""The source `stream`: the Redis stream `exposures`, read by one consumer among several."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from pushserver.core.errors import SourceError, StoreError
from pushserver.core.metrics import Metrics
from pushserver.exposure.mover import FORGET_AFTER_MS, Entries, Spool
from pushserver.exposure.portion import Portion
from pushserver.exposure.source import Delivery

__all__ = ["HoldingSpool", "StreamSource"]

LOOK_S = 0.1
"""Between two looks into a stream that is empty."""

LOOKS = 10


class HoldingSpool(Spool, Protocol):
    """The stream, as a consumer needs it."""

    async def touch(self, consumer: str, ids: Sequence[bytes]) -> None:
        """Count as having touched entries just now, so that nobody claims them."""


class StreamSource:
    """Entries of the stream for `consumer`, at most `batch_events` and about `batch_bytes` at a time.

    What others have read and not touched for `claim_after_s` is taken over; what this one holds it touches
    three times as often. A name is for one process.
    """

    def __init__(
        self,
        spool: HoldingSpool,
        consumer: str,
        metrics: Metrics,
        *,
        batch_events: int,
        batch_bytes: int,
        claim_after_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spool = spool
        self._consumer = consumer
        self._held_gauge = metrics.consume_held
        self._claim_after_s = claim_after_s
        self._clock = clock
        self._portion = Portion(batch_events, batch_bytes)
        self._claim_at = 0.0
        self._unfinished = False
        self._held: set[bytes] = set()
        self._holding: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Forget consumers that are gone, whose names would pile up."""
        with _as_source_errors():
            await self._spool.forget_consumers(FORGET_AFTER_MS)
        if self._holding is None:
            self._holding = asyncio.create_task(self._hold(), name="hold entries")

    async def receive(self) -> Sequence[Delivery]:
        """The next entries: what was not finished before, what the dead left, what is new."""
        with _as_source_errors():
            for _ in range(LOOKS):
                # An answer that is lost leaves entries that are this consumer's, and were not seen.
                unfinished, self._unfinished = self._unfinished, True
                entries = await self._next(unfinished)
                self._unfinished = unfinished and bool(entries)
                if entries:
                    self._portion.learn([len(data) for _, data in entries])
                    self._hold_on({entry_id for entry_id, _ in entries})
                    return [Delivery(entry_id.decode(), data) for entry_id, data in entries]
                await asyncio.sleep(LOOK_S)
        return []

    async def finish(self, deliveries: Sequence[Delivery]) -> None:
        """Remove them from the stream. When it fails they are read once more."""
        # Not held any more, whatever comes: what is read again is held again.
        self._hold_on(set())
        self._unfinished = True
        with _as_source_errors():
            await self._spool.finish([one.handle.encode() for one in deliveries])
        self._unfinished = False

    async def close(self) -> None:
        """Let go of what is held: it is another's when `claim_after_s` have passed."""
        self._hold_on(set())
        holding, self._holding = self._holding, None
        if holding is not None:
            holding.cancel()
            await asyncio.wait([holding])

    async def _next(self, unfinished: bool) -> Entries:
        count = self._portion.count()
        if unfinished:
            left = await self._spool.read_pending(self._consumer, count)
            if left:
                return await self._without_deleted(left)
        now = self._clock()
        if now >= self._claim_at:
            claimed = await self._spool.claim(self._consumer, count, int(self._claim_after_s * 1000))
            if claimed:
                return await self._without_deleted(claimed)
            self._claim_at = now + self._claim_after_s / 4
        return await self._spool.read_new(self._consumer, count)

    async def _without_deleted(self, entries: Entries) -> Entries:
        """Entries without data are those that somebody finished and whose acknowledgement was cut off."""
        deleted = [entry_id for entry_id, data in entries if not data]
        if deleted:
            await self._spool.finish(deleted)
        return [(entry_id, data) for entry_id, data in entries if data]

    def _hold_on(self, ids: set[bytes]) -> None:
        self._held = ids
        self._held_gauge.set(len(ids))

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(self._claim_after_s / 3)
            if self._held:
                # Redis away: nobody can claim meanwhile either, or they do, and what comes twice is known.
                with suppress(StoreError):
                    await self._spool.touch(self._consumer, sorted(self._held))


@contextmanager
def _as_source_errors() -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise SourceError(f"redis_{error.kind}", error.reason) from None
