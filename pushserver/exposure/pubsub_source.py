"""The source `pubsub`: messages pulled ahead within bounds, each kept until it is acknowledged.

pull    subscription -> buffer      asks for what there is room for
extend  keeps what is held for longer from being given out again
receive buffer -> the consumer
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import structlog

from pushserver.core.errors import SourceError
from pushserver.core.metrics import Metrics
from pushserver.exposure.backoff import Backoff
from pushserver.exposure.portion import Portion
from pushserver.exposure.pubsub_subscription import EXTEND_TO_S, FIRST_DEADLINE_S, PubSubSubscription
from pushserver.exposure.source import Delivery

__all__ = ["PubSubSource"]

log = structlog.get_logger(__name__)

PULLS = 2
"""On their way at a time: while one waits for more, the other brings what is there."""

HELD_BATCHES = 4
"""Batches held at most: one that is being stored, the others read ahead."""

RECEIVE_S = 1.0
GIVE_BACK_S = 1.0
FIRST_RETRY_S = 0.1
MOST_RETRY_S = 10.0


class _Held(NamedTuple):
    size: int
    until: float
    """When Pub/Sub gives it out again, at the earliest."""


class PubSubSource:
    """Messages of one subscription, in batches of at most `batch_events` messages and about `batch_bytes`."""

    def __init__(
        self,
        subscription: PubSubSubscription,
        metrics: Metrics,
        *,
        batch_events: int,
        batch_bytes: int,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._subscription = subscription
        self._gauge = metrics.consume_held
        self._batch_events = batch_events
        self._batch_bytes = batch_bytes
        self._clock = clock
        self._pause = pause
        self._backoff = Backoff(FIRST_RETRY_S, MOST_RETRY_S)
        self._portion = Portion(batch_events, batch_bytes)
        self._buffer: deque[Delivery] = deque()
        self._held: dict[str, _Held] = {}
        """What was read and is not finished, by the id that acknowledges it."""
        self._held_bytes = 0
        self._asked = 0
        self._changed = asyncio.Condition()
        self._fault: SourceError | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Connect, make the subscription on the emulator, and begin to read."""
        await self._subscription.open()
        if not self._tasks:
            work = [*(self._pull() for _ in range(PULLS)), self._keep_extending()]
            self._tasks = [asyncio.create_task(one, name="pubsub source") for one in work]

    async def receive(self) -> Sequence[Delivery]:
        """The next batch; raises what the last pull raised, once what was read before is out."""
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
                if ack_id in self._held:
                    self._held_bytes -= self._held.pop(ack_id).size
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

    async def _pull(self) -> None:
        while True:
            try:
                await self._pull_once()
            except SourceError as error:
                await self._tell(error)
            except Exception as error:
                # Nothing may end the pulling: a consumer that reads nothing looks like one without work.
                log.exception("consume.pull_broken")
                await self._tell(SourceError("unexpected", type(error).__name__))
            else:
                self._backoff.reset()
                continue
            await self._pause(self._backoff.next_s())

    async def _pull_once(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._room() > 0)
            count = self._room()
            self._asked += count
        try:
            deliveries = await self._subscription.pull(count)
        finally:
            self._asked -= count
        self._portion.learn([len(one.data) for one in deliveries])
        async with self._changed:
            until = self._clock() + FIRST_DEADLINE_S
            for one in deliveries:
                self._held[one.handle] = _Held(len(one.data), until)
                self._held_bytes += len(one.data)
            self._buffer += deliveries
            self._gauge.set(len(self._held))
            self._changed.notify_all()

    def _room(self) -> int:
        """Messages to ask for now; 0 while as much is held or asked for as may be."""
        events = HELD_BATCHES * self._batch_events - len(self._held) - self._asked
        bytes_left = HELD_BATCHES * self._batch_bytes - self._held_bytes
        return self._portion.count(events, bytes_left) if events > 0 and bytes_left > 0 else 0

    async def _tell(self, fault: SourceError) -> None:
        async with self._changed:
            self._fault = fault
            self._changed.notify_all()

    async def _keep_extending(self) -> None:
        """Most is finished long before; what is not is extended twice before its time is up."""
        while True:
            await self._pause(FIRST_DEADLINE_S / 3)
            soon = self._clock() + 2 * FIRST_DEADLINE_S / 3
            due = [ack_id for ack_id, held in self._held.items() if held.until < soon]
            with suppress(SourceError):
                await self._subscription.extend(due)
                until = self._clock() + EXTEND_TO_S
                for ack_id in due:
                    if ack_id in self._held:
                        self._held[ack_id] = self._held[ack_id]._replace(until=until)
