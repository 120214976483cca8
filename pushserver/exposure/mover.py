"""Moving spooled events on: from the stream in Redis to the sink, by any pod."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog

from pushserver.core.errors import EventRefusedError
from pushserver.core.metrics import Metrics
from pushserver.exposure.event import Event
from pushserver.exposure.sink import Sink
from pushserver.exposure.stream_sink import EventStream

__all__ = ["Mover", "Spool"]

log = structlog.get_logger(__name__)

MOVE_AT_ONCE = 100
"""Entries moved at a time: bounds the memory that they take (an entry of 1000 exposures is some 200 KB)."""

CLAIM_AFTER_MS = 60_000
"""An entry that nobody has touched for so long is taken from the pod that was moving it.

Far above the time a publish may take: only what pods that are gone or stuck had read is taken.
"""

FORGET_AFTER_MS = 3_600_000
"""A pod whose mover has not looked for so long is forgotten in the stream's group."""

MAX_MOVED_BYTES = 9_000_000
"""Entries that are larger were not written by a pod, and Pub/Sub takes 10 MB in a request."""

Entries = Sequence[tuple[bytes, bytes]]
"""(id, data) of stream entries; no data if the entry is gone or has no such field."""


class Spool(EventStream, Protocol):
    """What is needed of the stream in Redis to move on what it holds. Each may raise `StoreError`."""

    async def read_pending(self, consumer: str, count: int) -> Entries:
        """The oldest entries that `consumer` has read and not finished."""

    async def claim(self, consumer: str, count: int, idle_ms: int) -> Entries:
        """Entries read by others and not touched for `idle_ms`, now `consumer`'s."""

    async def read_new(self, consumer: str, count: int) -> Entries:
        """The oldest entries that nobody has read, now `consumer`'s."""

    async def finish(self, ids: Sequence[bytes]) -> None:
        """Remove entries."""

    async def set_aside(self, events: Sequence[Event]) -> None:
        """Keep events apart that the sink refuses for good."""

    async def forget_consumers(self, idle_ms: int) -> None:
        """Forget consumers that hold nothing and have not asked for `idle_ms`."""


class Mover:
    """Moves entries of the spool to the sink under the name of this pod.

    An entry is removed after the sink has it; whoever dies in between leaves it to be moved once more,
    and the store ignores the repeat.
    """

    def __init__(
        self,
        spool: Spool,
        sink: Sink,
        pod: str,
        metrics: Metrics,
        *,
        claim_after_ms: int = CLAIM_AFTER_MS,
    ) -> None:
        self._spool = spool
        self._sink = sink
        self._pod = pod
        self._claim_after_ms = claim_after_ms
        self._moved = metrics.exposures.labels("moved")
        self._aside = metrics.exposure_aside
        self.proved = False
        """Whether the sink ever took an event: until then it may be the sink that is wrong, not an event."""

    async def tidy(self) -> None:
        """Forget the movers of pods that are gone, whose names would pile up. Raises `StoreError`."""
        await self._spool.forget_consumers(FORGET_AFTER_MS)

    async def move(self, count: int = MOVE_AT_ONCE) -> int:
        """Move up to `count` entries; answers how many, 0 when the spool has none for this pod.

        Raises `SinkError` (the entries stay this pod's, and are first the next time) and `StoreError`.
        """
        entries = await self._take(count)
        events = _fit(entries)
        try:
            await self._publish(events)
        except EventRefusedError as error:
            # More of them, or a single one would hold up all the others for as long as it is refused.
            entries = [*entries, *await self._spool.read_new(self._pod, MOVE_AT_ONCE)]
            await self._sort_out(_fit(entries), error)
        if entries:
            await self._spool.finish([entry_id for entry_id, _ in entries])
        return len(entries)

    async def _publish(self, events: Sequence[Event]) -> None:
        if events:
            await self._sink.publish(events)
            self.proved = True
            self._moved.inc(sum(event.count for event in events))

    async def _sort_out(self, events: Sequence[Event], error: EventRefusedError) -> None:
        """Publish each by itself, and set aside the ones that are refused.

        Raises what the sink said if it takes none of them and never took any: then the topic is wrong.
        """
        refused = []
        for event in events:
            try:
                await self._publish([event])
            except EventRefusedError:
                refused.append(event)
        if not self.proved:
            raise error
        await self._spool.set_aside(refused)
        self._aside.inc(len(refused))
        log.error("exposure.set_aside", events=len(refused), reason=error.reason)

    async def _take(self, count: int) -> Entries:
        # What this pod could not publish the last time, what dead pods left, then what is new.
        return (
            await self._spool.read_pending(self._pod, count)
            or await self._spool.claim(self._pod, count, self._claim_after_ms)
            or await self._spool.read_new(self._pod, count)
        )


def _fit(entries: Entries) -> list[Event]:
    events = [Event.from_data(data) for _, data in entries if 0 < len(data) <= MAX_MOVED_BYTES]
    if len(events) < len(entries):
        log.warning("exposure.entries_unfit", entries=len(entries) - len(events))
    return events
