"""Settle: after the confirm the exposure is handed over, and only then the id leaves the inbox (or the cursor
moves on)."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Protocol, get_args

import structlog

from pushserver.core.clock import StoreClock
from pushserver.core.errors import SinkError, StoreError
from pushserver.core.metrics import Metrics
from pushserver.delivery.connection import Connection
from pushserver.delivery.sent import INBOX, Sent
from pushserver.delivery.slices import in_slices
from pushserver.delivery.tasks import Tasks
from pushserver.exposure.event import Confirmed, Event, Proof, build_events
from pushserver.stores.inbox import Inbox

__all__ = ["Outlet", "Settler"]

log = structlog.get_logger(__name__)

MAX_BATCH = 10_000
"""What a batch weighs in messages, and as much more as the last connection in it has just confirmed."""
CONNECTION_WEIGHT = 4
"""What a connection counts beside its messages, as messages: so much longer it takes."""
EXPOSURE_BYTES = 512
"""A message of a connection whose part of an exposure is larger counts once more for each of these."""
MAX_WORKERS = 4
MAX_PAUSE_S = 2.0
RETRY_S = 0.5
GATHER_S = 0.05
"""What came live from the log waits so long for others': of a broadcast many are settled alike."""


class Outlet(Protocol):
    """Where exposure events are handed over."""

    async def accept(self, events: Sequence[Event]) -> None:
        """Return when all are accepted by the sink or its spool. Raises `SinkError` when not."""


class _Settling:
    """What a connection confirmed in one go, or what is left of it to be settled."""

    __slots__ = ("at_ms", "connection", "exposed", "items", "proof")

    def __init__(self, connection: Connection, items: Sequence[Sent], at_ms: int, proof: Proof) -> None:
        self.connection = connection
        self.items = items
        self.at_ms = at_ms
        self.proof: Proof = proof
        self.exposed = False


class _Alike:
    """What is the same for all who confirmed the same messages together."""

    __slots__ = ("from_inbox", "others", "pushed_at")

    def __init__(self, items: Sequence[Sent]) -> None:
        self.from_inbox = [sent for sent in items if sent.position == INBOX]
        self.others = [sent.id for sent in items if sent.position != INBOX]
        self.pushed_at = sorted([sent.pushed_at for sent in items])


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
        self._confirms = {proof: metrics.confirms.labels(proof) for proof in get_args(Proof)}
        self._tasks = tasks
        self._pod = pod
        self._on_log_settled = on_log_settled
        self._queue: deque[_Settling] = deque()
        self._resting: list[_Settling] = []
        self._workers = 0
        self._waiting = 0
        self._next: asyncio.Handle | None = None
        self._gathers = False
        self._idle = asyncio.Event()
        self._idle.set()

    def confirmed(self, connection: Connection, items: Sequence[Sent], proof: Proof) -> None:
        """Take over messages that this connection has just confirmed, at least one."""
        now = self._clock.now_ms()
        self._confirms[proof].inc(len(items))
        self._queue.append(_Settling(connection, items, now, proof))
        self._waiting += len(items)
        self._idle.clear()
        # Who catches up is given more once this is settled; who is live waits for nothing.
        broadcast = all(sent.position > INBOX and sent.source == "live" for sent in (items[0], items[-1]))
        self._plan(gather=broadcast and self._waiting < MAX_BATCH)

    def hurry(self) -> None:
        """Somebody leaves: nothing is gathered any longer, or what they confirmed would come again."""
        if self._next is not None:
            self._plan(gather=False)

    def _plan(self, *, gather: bool) -> None:
        """Start soon; or if nothing that waits for its start is in a hurry, a little later."""
        if self._next is None and self._workers == MAX_WORKERS:
            # The first of them that is done takes it along with what may be waiting for that already.
            return
        if self._next is not None and (gather or not self._gathers):
            return
        if self._next is not None:
            self._next.cancel()
        loop, self._gathers = asyncio.get_running_loop(), gather
        # At the end of this turn of the loop at least: what others confirm in it shares the batch.
        self._next = loop.call_later(GATHER_S, self._start) if gather else loop.call_soon(self._start)

    @property
    def waiting(self) -> int:
        """Confirmed messages not settled yet."""
        return self._waiting

    async def drained(self) -> None:
        """Return when nothing waits any more."""
        await self._idle.wait()

    def _start(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._workers < MAX_WORKERS and self._queue:
            batch = self._next_batch()
            self._workers += 1
            self._tasks.spawn(self._work(batch), "settle")
        if self._workers < MAX_WORKERS and self._queue:
            # In a turn of its own: what is exposed for the first time is encoded for it.
            self._next, self._gathers = asyncio.get_running_loop().call_soon(self._start), False

    def _next_batch(self) -> list[_Settling]:
        batch, size = [], 0
        while self._queue and size < MAX_BATCH:
            some = self._queue.popleft()
            try:
                size += _weight(some)
            except Exception:
                self._broken(some)
                size += CONNECTION_WEIGHT
            else:
                batch.append(some)
        return batch

    async def _work(self, batch: list[_Settling]) -> None:
        try:
            alike = self._group(batch)
            await self._expose([some for some in batch if not some.exposed])
        except Exception:
            self._give_up(batch)
            raise
        finally:
            self._workers -= 1
            if self._next is None:
                self._start()
        of: defaultdict[str, list[_Settling]] = defaultdict(list)
        for some in batch:
            try:
                left = self._pass(some, alike[tuple(some.items)])
            except Exception:
                self._broken(some)
                continue
            if left:
                of[some.connection.user].append(some)
        # Each by itself, for one that is late holds no other's up.
        async for user, items in in_slices(of.items()):
            self._tasks.spawn(self._remove(user, items), "settle")

    def _group(self, batch: list[_Settling]) -> dict[tuple[Sent, ...], _Alike]:
        """What is the same for many of them; with it, how long each was on its way is counted."""
        alike: dict[tuple[Sent, ...], _Alike] = {}
        for some in batch:
            key = tuple(some.items)
            if key not in alike:
                alike[key] = _Alike(key)
            if not some.exposed:
                self._metrics.confirm_delay.observe_since(alike[key].pushed_at, some.at_ms)
        return alike

    def _pass(self, some: _Settling, alike: _Alike) -> bool:
        """What came from the log, or is stored nowhere, is settled by its exposure; the cursor follows.

        Whether anything is left that came from the inbox.
        """
        passed = len(alike.others)
        if passed:
            some.connection.forget(alike.others)
            self._on_log_settled(some.connection)
            self._metrics.log_settled.inc(passed)
            self._waiting -= passed
            some.items = alike.from_inbox
            self._over([])
        return bool(alike.from_inbox)

    def _broken(self, some: _Settling) -> None:
        """As `_give_up`, where an error that is being handled holds no others up."""
        self._give_up([some])
        self._metrics.task_failures.inc()
        log.exception("settle.broken", connection=some.connection.id)

    def _give_up(self, batch: Sequence[_Settling]) -> None:
        """No peer causes that. Nobody can tell what of it is settled: the clients come back to see."""
        loop = asyncio.get_running_loop()
        for some in batch:
            # Each in a callback of its own, for whatever failed here may fail there once more.
            loop.call_soon(some.connection.transport.abort)
        self._over(batch)

    def _over(self, batch: Sequence[_Settling]) -> None:
        for some in batch:
            self._waiting -= len(some.items)
        if not self._waiting:
            self._idle.set()

    async def _expose(self, batch: list[_Settling]) -> None:
        if not batch:
            return
        confirmed = [
            Confirmed(some.connection.exposure_part, some.items, some.at_ms, some.proof) for some in batch
        ]
        pause = 0.1
        while True:
            try:
                await self._outlet.accept(build_events(confirmed, self._pod))
                break
            except (SinkError, StoreError):
                await asyncio.sleep(_jittered(pause))
                pause = min(MAX_PAUSE_S, pause * 2)
        for some in batch:
            some.exposed = True

    async def _remove(self, user: str, items: list[_Settling]) -> None:
        try:
            self._metrics.settled.inc(await self._inbox.settle(user, _ids(items)))
        except StoreError:
            self._rest(items)
            return
        except Exception:
            self._give_up(items)
            raise
        for some in items:
            try:
                some.connection.settled([sent.id for sent in some.items])
            except Exception:
                self._broken(some)
            else:
                self._over([some])

    def _rest(self, items: list[_Settling]) -> None:
        """These come again a little later, all with one timer."""
        if not self._resting:
            asyncio.get_running_loop().call_later(_jittered(RETRY_S), self._rested)
        self._resting += items

    def _rested(self) -> None:
        self._queue.extend(self._resting)
        self._resting.clear()
        self._start()


def _weight(some: _Settling) -> int:
    return CONNECTION_WEIGHT + len(some.items) * (1 + len(some.connection.exposure_part) // EXPOSURE_BYTES)


def _ids(items: list[_Settling]) -> list[str]:
    # Two connections of a user may confirm the same message at once.
    return list(dict.fromkeys(sent.id for some in items for sent in some.items))


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - no secret hangs on it
