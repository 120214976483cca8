"""The sink `stream`: the Redis stream `exposures`, which is the broker where there is no Pub/Sub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog

from pushserver.core.alarm import Alarm
from pushserver.core.errors import SinkRefusedError, SinkUnavailableError, StoreError, StoreRefusedError
from pushserver.core.metrics import Metrics
from pushserver.exposure.event import Event

__all__ = ["EventStream", "StreamSink"]

log = structlog.get_logger(__name__)


class EventStream(Protocol):
    """What is needed of the stream in Redis to add to it."""

    async def add(self, events: Sequence[Event]) -> int:
        """Add events in order while there is room; answers how many. Raises `StoreError`."""


class StreamSink:
    """Adds events to a stream of bounded length.

    When it is full the newest events are dropped: counted as `exposure_dropped`, alarmed once a minute,
    and accepted as far as the caller is concerned, for a message must not stay unsettled for that.
    """

    def __init__(self, stream: EventStream, metrics: Metrics, alarm: Alarm) -> None:
        self._stream = stream
        self._dropped = metrics.exposure_dropped
        self._alarm = alarm

    async def start(self) -> None:
        """Nothing to connect to: whoever passed the stream in connects it."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Return when Redis has the events. Raises `SinkUnavailableError` or `SinkRefusedError`."""
        if not events:
            return
        try:
            stored = await self._stream.add(events)
        except StoreError as error:
            known = SinkRefusedError if isinstance(error, StoreRefusedError) else SinkUnavailableError
            raise known(f"redis_{error.kind}", error.reason) from None
        if stored < len(events):
            self._drop(events[stored:])

    async def close(self) -> None:
        """Nothing to give up."""

    def _drop(self, events: Sequence[Event]) -> None:
        lost = sum(event.count for event in events)
        self._dropped.inc(lost)
        if self._alarm.due():
            log.error("exposure.dropped", exposures=lost, reason="the stream is full: exposure.spool_max")
