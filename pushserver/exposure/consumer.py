"""The consumer: reads events, has them committed, and acknowledges them after that, never before.

    receive -> take (decoded and committed in one transaction) -> finish

Whoever dies between two of these steps leaves events that come again, and whose records are known then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

import structlog

from pushserver.core.alarm import Alarm
from pushserver.core.errors import DatabaseError, SourceError
from pushserver.core.metrics import Metrics
from pushserver.exposure.backoff import Backoff
from pushserver.exposure.record import Taken
from pushserver.exposure.source import Delivery, Source

__all__ = ["Consumer", "Keeper"]

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

FIRST_RETRY_S = 0.2
MOST_RETRY_S = 10.0
MOST_AT_ONCE = 10_000
"""Events taken in one go; half as many after each try that failed: perhaps it was too much for its time."""


class Keeper(Protocol):
    """Who keeps events for good."""

    async def open(self) -> None:
        """Be ready to take. May raise `DatabaseError`, and may be called again."""

    async def take(self, events: Sequence[bytes]) -> Taken:
        """Return when all of them are committed. May raise `DatabaseError`, and may be called again."""


class Consumer:
    """Runs until `stop`. What fails is tried again with a back-off, and said once a minute."""

    def __init__(self, source: Source, keeper: Keeper, metrics: Metrics, alarm: Alarm | None = None) -> None:
        self._source = source
        self._keeper = keeper
        self._metrics = metrics
        self._alarm = alarm or Alarm()
        self._alarmed = False
        self._backoff = Backoff(FIRST_RETRY_S, MOST_RETRY_S)
        self._stop = asyncio.Event()
        self._most = MOST_AT_ONCE
        self.away = "starting"
        """Why nothing goes on, "" while it does."""

    def stop(self) -> None:
        """Finish the batch under way, unless the database is away, and return from `run`."""
        self._stop.set()

    async def run(self) -> None:
        """Consume until `stop`. Raises `ConfigError` for what no trying again mends."""
        await self._until_done(self._keeper.open)
        await self._until_done(self._source.open)
        while not self._stop.is_set():
            deliveries = await self._until_done(self._source.receive)
            if deliveries:
                await self._consume(deliveries)

    async def _consume(self, deliveries: Sequence[Delivery]) -> None:
        done = 0
        while done < len(deliveries):
            began = time.monotonic()
            some = await self._until_done(partial(self._take_some, deliveries[done:]))
            if some is None:
                # Leaving, and not committed: somebody else gets them.
                break
            count, taken = some
            self._count(count, taken, time.monotonic() - began)
            done += count
        # Once only: what is not acknowledged comes again, and is known then.
        try:
            if done:
                await self._source.finish(deliveries[:done])
        except SourceError as error:
            self._failed("source", error)

    async def _take_some(self, deliveries: Sequence[Delivery]) -> tuple[int, Taken]:
        count = min(len(deliveries), self._most)
        try:
            taken = await self._keeper.take([one.data for one in deliveries[:count]])
        except DatabaseError:
            self._most = max(1, count // 2)
            raise
        self._most = min(MOST_AT_ONCE, self._most * 2)
        return count, taken

    async def _until_done(self, step: Callable[[], Awaitable[Answer]]) -> Answer | None:
        """The answer of `step`, repeated with a back-off until it works; None once `stop` was called."""
        while True:
            try:
                answer = await step()
            except DatabaseError as error:
                self._failed("database", error)
            except SourceError as error:
                self._failed("source", error)
            else:
                self._works()
                return answer
            with suppress(TimeoutError):
                async with asyncio.timeout(self._backoff.next_s()):
                    await self._stop.wait()
            if self._stop.is_set():
                return None

    def _failed(self, where: str, error: DatabaseError | SourceError) -> None:
        self.away = f"{where}: {error.kind}"
        self._metrics.consume_failures.labels(where, error.kind).inc()
        if self._alarm.due():
            self._alarmed = True
            log.error("consume.away", where=where, kind=error.kind, reason=error.reason)

    def _works(self) -> None:
        self.away = ""
        self._backoff.reset()
        if self._alarmed:
            self._alarmed = False
            log.info("consume.back")

    def _count(self, events: int, taken: Taken, seconds: float) -> None:
        metrics = self._metrics
        metrics.consumed_events.inc(events)
        metrics.consumed.labels("new").inc(taken.new)
        metrics.consumed.labels("known").inc(taken.exposures - taken.new)
        metrics.consume_seconds.observe(seconds)
        if taken.confirmed_at:
            metrics.consume_lag.set(max(0.0, time.time() - taken.confirmed_at / 1000))
        for reason, count in taken.letters.items():
            metrics.consume_dead_letters.labels(reason).inc(count)
        if taken.letters:
            log.warning("consume.dead_letters", **taken.letters)
