"""The source `pubsub`: a stream of messages read ahead within bounds, each kept until it is acknowledged.

pump    stream -> buffer            waits while the buffer is full; opens the stream again when it breaks
extend  keeps what is held from being given out again
receive buffer -> the consumer
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from pushserver.core.errors import SourceError
from pushserver.core.metrics import Metrics
from pushserver.exposure.backoff import Backoff
from pushserver.exposure.pubsub_subscription import ACK_DEADLINE_S, PubSubSubscription
from pushserver.exposure.source import Delivery

__all__ = ["PubSubSource"]

log = structlog.get_logger(__name__)

HELD_BATCHES = 4
"""Batches held at most: one that is being stored, the others read ahead."""

RECEIVE_S = 1.0
GIVE_BACK_S = 1.0
FIRST_RETRY_S = 0.1
MOST_RETRY_S = 10.0


class PubSubSource:
    """Messages of one subscription, in batches of at most `batch_events` messages and about `batch_bytes`."""

    def __init__(
        self,
        subscription: PubSubSubscription,
        metrics: Metrics,
        *,
        batch_events: int,
        batch_bytes: int,
        extend_s: float = ACK_DEADLINE_S / 3,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._subscription = subscription
        self._gauge = metrics.consume_held
        self._batch_events = batch_events
        self._batch_bytes = batch_bytes
        self._extend_s = extend_s
        self._pause = pause
        self._backoff = Backoff(FIRST_RETRY_S, MOST_RETRY_S)
        self._buffer: deque[Delivery] = deque()
        self._held: dict[str, int] = {}
        """Size of each message that was read and is not finished, by the id that acknowledges it."""
        self._held_bytes = 0
        self._changed = asyncio.Condition()
        self._fault: SourceError | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Connect, make the subscription on the emulator, and begin to read."""
        await self._subscription.open()
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._pump(), name="pubsub stream"),
                asyncio.create_task(self._keep_extending(), name="pubsub leases"),
            ]

    async def receive(self) -> Sequence[Delivery]:
        """The next batch; raises what broke the stream once more than once."""
        async with self._changed:
            with suppress(TimeoutError):
                async with asyncio.timeout(RECEIVE_S):
                    await self._changed.wait_for(lambda: self._buffer or self._fault)
            if not self._buffer and self._fault is not None:
                fault, self._fault = self._fault, None
                raise fault
            return self._batch()

    async def finish(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge. What fails here comes again when its time is up."""
        ids = [one.handle for one in deliveries]
        # Let go of before it is asked: what Pub/Sub does not hear must run out.
        async with self._changed:
            for ack_id in ids:
                self._held_bytes -= self._held.pop(ack_id, 0)
            self._gauge.set(len(self._held))
            self._changed.notify_all()
        await self._subscription.acknowledge(ids)

    async def close(self) -> None:
        """Give back what was read and not finished, for others to have at once, and disconnect."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        with suppress(SourceError, TimeoutError):
            async with asyncio.timeout(GIVE_BACK_S):
                await self._subscription.extend(list(self._held), 0)
        self._held.clear()
        self._buffer.clear()
        await self._subscription.close()

    def _batch(self) -> list[Delivery]:
        batch: list[Delivery] = []
        size = 0
        while self._buffer and len(batch) < self._batch_events:
            size += len(self._buffer[0].data)
            if batch and size > self._batch_bytes:
                break
            batch.append(self._buffer.popleft())
        return batch

    async def _pump(self) -> None:
        failures = 0
        while True:
            try:
                async for deliveries in self._subscription.messages(
                    held_events=HELD_BATCHES * self._batch_events, held_bytes=HELD_BATCHES * self._batch_bytes
                ):
                    failures = 0
                    self._backoff.reset()
                    await self._buffered(deliveries)
            except SourceError as error:
                # A stream is cut now and then, by Google too: only what happens again at once is a fault.
                failures += 1
                if failures > 1:
                    await self._tell(error)
            except Exception as error:
                log.exception("consume.stream_broken")
                await self._tell(SourceError("unexpected", type(error).__name__))
            await self._pause(self._backoff.next_s())

    async def _buffered(self, deliveries: Sequence[Delivery]) -> None:
        """Add what came, and wait for room before more is read."""
        async with self._changed:
            for one in deliveries:
                self._held[one.handle] = len(one.data)
                self._held_bytes += len(one.data)
            self._buffer += deliveries
            self._gauge.set(len(self._held))
            self._changed.notify_all()
            await self._changed.wait_for(self._has_room)

    def _has_room(self) -> bool:
        return (
            len(self._held) < HELD_BATCHES * self._batch_events
            and self._held_bytes < HELD_BATCHES * self._batch_bytes
        )

    async def _tell(self, fault: SourceError) -> None:
        async with self._changed:
            self._fault = fault
            self._changed.notify_all()

    async def _keep_extending(self) -> None:
        while True:
            await self._pause(self._extend_s)
            with suppress(SourceError):
                await self._subscription.extend(list(self._held))
