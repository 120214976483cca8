"""The sink `pubsub`: many events in a publish request, a few requests at a time, nothing without bound."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial

import structlog

from pushserver.core.errors import SinkError, SinkUnavailableError
from pushserver.exposure.event import Event
from pushserver.exposure.pubsub_topic import PubSubTopic

__all__ = ["PubSubSink"]

log = structlog.get_logger(__name__)

MESSAGE_OVERHEAD = 200
"""Bytes that attributes and lengths add to the data of an event in a request, at most."""


Answer = asyncio.Future[SinkError | None]
"""One caller's share in one request: the error, or None for success. Not an exception, which the loop
would complain of when the caller was cancelled and nobody looks."""


class _Batch:
    """Events that go in one request, and an answer for each caller whose events are among them."""

    __slots__ = ("answers", "due", "events", "size", "timer")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.answers: list[Answer] = []
        self.size = 0
        self.due = False
        self.timer: asyncio.TimerHandle | None = None


class PubSubSink:
    """Batches events of concurrent `publish` calls into requests to one topic.

    A request leaves when it has `batch_events` events or the next one would exceed `batch_bytes`, else
    `batch_ms` after its first event; while `max_in_flight` requests are unanswered it goes on filling.
    At most `max_events` events and `max_bytes` bytes are held, answered ones left out; beyond that
    `publish` fails at once with kind `full`. When a request fails for good, the ones that wait behind it
    fail with it, rather than each by its own time-out.
    """

    def __init__(
        self,
        topic: PubSubTopic,
        *,
        batch_events: int = 1000,
        batch_bytes: int = 8 * 1024 * 1024,
        batch_ms: float = 10,
        max_in_flight: int = 4,
        max_events: int = 50_000,
        max_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        self._topic = topic
        self._batch_events = batch_events
        self._batch_bytes = batch_bytes
        self._batch_s = batch_ms / 1000
        self._max_in_flight = max_in_flight
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._queue: deque[_Batch] = deque()
        self._sending: set[asyncio.Task[None]] = set()
        self._events = 0
        self._bytes = 0
        self._closed = False

    @property
    def buffered(self) -> int:
        """Events that are held: waiting for a request, or in one that is not answered."""
        return self._events

    async def start(self) -> None:
        """Connect, and make the topic on the emulator. Raises `SinkError`."""
        await self._topic.open()

    async def publish(self, events: Sequence[Event]) -> None:
        """Return when Pub/Sub has all the events. Raises `SinkUnavailableError` or `SinkRefusedError`.

        A caller that is cancelled only stops waiting: the requests, which it shares, go on.
        """
        if not events:
            return
        # All of them are waited for: when this raises, nothing of it is under way any more.
        outcomes = [await answer for answer in self._enqueue(events)]
        for error in outcomes:
            if error is not None:
                raise type(error)(error.kind, error.reason)

    async def close(self) -> None:
        """Fail what is unanswered with kind `closed` and disconnect. Twice is once."""
        self._closed = True
        self._fail_queued(_leaving())
        for task in self._sending:
            task.cancel()
        while self._sending:
            await asyncio.wait(self._sending)
        await self._topic.close()

    def _enqueue(self, events: Sequence[Event]) -> list[Answer]:
        if self._closed:
            raise _leaving()
        sizes = [len(event.data) + MESSAGE_OVERHEAD for event in events]
        self._take_room(len(events), sum(sizes))
        answers: list[Answer] = []
        current = None
        for event, size in zip(events, sizes, strict=True):
            batch = self._open_batch(size)
            batch.events.append(event)
            batch.size += size
            if batch is not current:
                current = batch
                answers.append(asyncio.get_running_loop().create_future())
                batch.answers.append(answers[-1])
        self._pump()
        return answers

    def _take_room(self, count: int, size: int) -> None:
        # An empty buffer takes anything: what is larger than the bound has to get through at some time.
        if self._events and (self._events + count > self._max_events or self._bytes + size > self._max_bytes):
            raise SinkUnavailableError("full", f"{self._events} events wait for Pub/Sub")
        self._events += count
        self._bytes += size

    def _open_batch(self, size: int) -> _Batch:
        if self._queue:
            last = self._queue[-1]
            if len(last.events) < self._batch_events and last.size + size <= self._batch_bytes:
                return last
        loop = asyncio.get_running_loop()
        batch = _Batch()
        batch.timer = loop.call_later(self._batch_s, self._fall_due, batch)
        self._queue.append(batch)
        return batch

    def _fall_due(self, batch: _Batch) -> None:
        batch.due = True
        self._pump()

    def _pump(self) -> None:
        """Send what is ready: full, due, or followed by another batch, because it was full then."""
        while self._queue and len(self._sending) < self._max_in_flight:
            batch = self._queue[0]
            if not (batch.due or len(self._queue) > 1 or len(batch.events) >= self._batch_events):
                return
            self._queue.popleft()
            request = self._topic.publish(batch.events)
            task = asyncio.get_running_loop().create_task(request, name="exposure request")
            self._sending.add(task)
            task.add_done_callback(partial(self._answered, batch))

    def _answered(self, batch: _Batch, task: asyncio.Task[None]) -> None:
        # In a callback, not in the task: one that is cancelled before its first step runs no line of it.
        self._sending.discard(task)
        error = _outcome(task)
        self._finish(batch, error)
        if error is not None:
            self._fail_queued(error)
        self._pump()

    def _fail_queued(self, error: SinkError) -> None:
        while self._queue:
            self._finish(self._queue.popleft(), error)

    def _finish(self, batch: _Batch, outcome: SinkError | None) -> None:
        if batch.timer is not None:
            batch.timer.cancel()
        self._events -= len(batch.events)
        self._bytes -= batch.size
        for answer in batch.answers:
            if not answer.done():
                answer.set_result(outcome)


def _outcome(task: asyncio.Task[None]) -> SinkError | None:
    if task.cancelled():
        return _leaving()
    error = task.exception()
    if error is None or isinstance(error, SinkError):
        return error
    # Whatever else comes out of the library, nobody may be left waiting.
    log.error("exposure.request_broken", exc_info=error)
    return SinkUnavailableError("unexpected", type(error).__name__)


def _leaving() -> SinkUnavailableError:
    return SinkUnavailableError("closed", "the pod is leaving")
