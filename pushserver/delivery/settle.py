"""Settle: after the confirm the exposure is handed over, and only then the id leaves the inbox (or the cursor
moves on)."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pushserver.core.clock import StoreClock
from pushserver.core.errors import SinkError, StoreError
from pushserver.core.metrics import Metrics
from pushserver.delivery.connection import Connection
from pushserver.delivery.sent import INBOX, Sent
from pushserver.delivery.tasks import Tasks, together
from pushserver.exposure.event import Event, Exposure, Proof, build_events
from pushserver.stores.inbox import Inbox

__all__ = ["Outlet", "Settler"]

MAX_BATCH = 2000
MAX_WORKERS = 4
MAX_PAUSE_S = 2.0
RETRY_S = 0.5


class Outlet(Protocol):
    """Where exposure events are handed over."""

    async def accept(self, events: Sequence[Event]) -> None:
        """Return when all are accepted by the sink or its spool. Raises `SinkError` when not."""


@dataclass(slots=True)
class _Confirmed:
    connection: Connection
    sent: Sent
    at_ms: int
    proof: Proof
    exposed: bool = False


class Settler:
    """Settles confirmed messages, batched across connections.

    What waits here is bounded by what was pushed: a page that is read again brings nothing that still is
    in `sent`. Nothing is given up: exposure and removal are repeated until both were answered, for a repeat
    of either changes nothing; a removal that is late or refused for one user holds no other's up. A killed
    pod leaves the ids in their inboxes.
    """

    def __init__(
        self,
        outlet: Outlet,
        inbox: Inbox,
        clock: StoreClock,
        metrics: Metrics,
        tasks: Tasks,
        *,
        pod: str,
        on_log_settled: Callable[[Connection], None] = lambda connection: None,
    ) -> None:
        self._outlet = outlet
        self._inbox = inbox
        self._clock = clock
        self._metrics = metrics
        self._tasks = tasks
        self._pod = pod
        self._on_log_settled = on_log_settled
        self._queue: deque[_Confirmed] = deque()
        self._resting: list[_Confirmed] = []
        self._workers = 0
        self._in_work = 0
        self._due = False
        self._idle = asyncio.Event()
        self._idle.set()

    def confirmed(self, connection: Connection, items: Sequence[Sent], proof: Proof) -> None:
        """Take over messages that this connection has just confirmed."""
        now = self._clock.now_ms()
        for sent in items:
            self._queue.append(_Confirmed(connection, sent, now, proof))
            self._metrics.confirm_delay.observe(max(0, now - sent.pushed_at) / 1000)
        self._metrics.confirms.labels(proof).inc(len(items))
        self._idle.clear()
        if not self._due:
            self._due = True
            # At the end of this turn of the loop: what other connections confirm in it shares the batch.
            asyncio.get_running_loop().call_soon(self._start)

    @property
    def waiting(self) -> int:
        """Confirmed messages not settled yet."""
        return len(self._queue) + self._in_work + len(self._resting)

    async def drained(self) -> None:
        """Return when nothing waits any more."""
        await self._idle.wait()

    def _start(self) -> None:
        self._due = False
        while self._workers < MAX_WORKERS and self._queue:
            self._workers += 1
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
            self._in_work += len(batch)
            self._tasks.spawn(self._work(batch), "settle")

    async def _work(self, batch: list[_Confirmed]) -> None:
        try:
            await self._expose([item for item in batch if not item.exposed])
        except Exception:
            self._over(len(batch))
            raise
        finally:
            self._workers -= 1
            self._start()
        of: defaultdict[str, list[_Confirmed]] = defaultdict(list)
        stored_elsewhere: list[_Confirmed] = []
        for item in batch:
            if item.sent.position == INBOX:
                of[item.connection.user].append(item)
            else:
                stored_elsewhere.append(item)
        self._pass(stored_elsewhere)
        await together([self._remove(user, items) for user, items in of.items()])

    def _pass(self, items: list[_Confirmed]) -> None:
        """What came from the log, or is stored nowhere, is settled by its exposure; the cursor follows."""
        for connection, ids in _by_connection(items).items():
            connection.forget(ids)
            self._on_log_settled(connection)
        self._metrics.log_settled.inc(len(items))
        self._over(len(items))

    def _over(self, count: int) -> None:
        self._in_work -= count
        if not self.waiting:
            self._idle.set()

    async def _expose(self, batch: list[_Confirmed]) -> None:
        shown = [
            Exposure(
                item.sent.id,
                item.sent.source,
                item.sent.queued_at,
                item.connection.exposure_part,
                item.sent.pushed_at,
                item.at_ms,
                item.proof,
            )
            for item in batch
        ]
        pause = 0.1
        while shown:
            try:
                await self._outlet.accept(build_events(shown, self._pod))
                break
            except (SinkError, StoreError):
                await asyncio.sleep(_jittered(pause))
                pause = min(MAX_PAUSE_S, pause * 2)
        for item in batch:
            item.exposed = True

    async def _remove(self, user: str, items: list[_Confirmed]) -> None:
        try:
            self._metrics.settled.inc(await self._inbox.settle(user, _ids(items)))
            self._forget(items)
        except StoreError:
            self._rest(items)
        finally:
            self._over(len(items))

    def _rest(self, items: list[_Confirmed]) -> None:
        """These come again a little later, all with one timer."""
        if not self._resting:
            asyncio.get_running_loop().call_later(_jittered(RETRY_S), self._rested)
        self._resting += items

    def _rested(self) -> None:
        self._queue.extend(self._resting)
        self._resting.clear()
        self._start()

    @staticmethod
    def _forget(items: list[_Confirmed]) -> None:
        for connection, ids in _by_connection(items).items():
            connection.settled(ids)


def _by_connection(items: list[_Confirmed]) -> dict[Connection, list[str]]:
    of: defaultdict[Connection, list[str]] = defaultdict(list)
    for item in items:
        of[item.connection].append(item.sent.id)
    return of


def _ids(items: list[_Confirmed]) -> list[str]:
    # Two connections of a user may confirm the same message at once.
    return list(dict.fromkeys(item.sent.id for item in items))


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - no secret hangs on it
