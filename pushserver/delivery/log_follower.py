"""Following the log: every pod sees each message to categories or to everyone, and gives it to whom it means.

entry -> tail -> the connections that match -> live: pushed at once
                                            -> catching up, or no room: from the tail, at their own pace
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

import structlog

from pushserver.core.clock import StoreClock
from pushserver.core.errors import StoreError
from pushserver.core.message import Message
from pushserver.core.metrics import Metrics
from pushserver.delivery.connection import Connection, State
from pushserver.delivery.content import Contents
from pushserver.delivery.fan_out import push_to_all
from pushserver.delivery.live_batch import LiveBatch, Placed
from pushserver.delivery.log_tail import LogTail, Targeted
from pushserver.delivery.manager import Manager
from pushserver.delivery.slices import SLICE, in_slices, slices
from pushserver.stores.log import LogEntry, LogStore

__all__ = ["LogFollower"]

log = structlog.get_logger(__name__)

READ_AT_ONCE = 100
"""Entries read in one round trip, and pushed to a connection in one write."""
LARGE_BYTES = 16 * 1024
"""Of a frame, from which on compressing it takes as long as pushing some twenty."""
PAUSE_S = 0.2
"""Between two reads while Redis does not answer."""

Group = tuple[int, Sequence[Connection]]
"""Which of the messages of one read are due (the nth bit is the nth of them), and whom."""


class LogFollower:
    """Keeps the tail, and pushes what arrives to the live connections it means."""

    def __init__(
        self,
        store: LogStore,
        tail: LogTail,
        manager: Manager,
        contents: Contents,
        *,
        clock: StoreClock,
        metrics: Metrics,
        look_again: Callable[[Connection], None],
        pushed: Callable[[Connection], None],
        feed_caught_up: Callable[[], Awaitable[None]],
        moving: Callable[[], Iterable[str]],
    ) -> None:
        self._store = store
        self._tail = tail
        self._manager = manager
        self._contents = contents
        self._clock = clock
        self._metrics = metrics
        self._look_again = look_again
        self._pushed = pushed
        self._feed_caught_up = feed_caught_up
        self._moving = moving

    async def load(self) -> None:
        """Read what the log holds, before the pod takes traffic. Raises `StoreError`."""
        span = await self._store.range()
        self._tail.begin(span.trimmed_upto, 0)
        now_ms = self._clock.now_ms()
        async for page in self._store.past(span.last):
            for entry in page:
                self._keep(entry, now_ms)
        self._tail.position = self._tail.offered = max(span.last, self._tail.position)

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                entries, upto = await self._store.read(self._tail.position, READ_AT_ONCE)
                # Only who lags behind gets a full page, and only such a page may lie behind a gap.
                start = (await self._store.range()).trimmed_upto if len(entries) == READ_AT_ONCE else 0
            except StoreError as error:
                self._metrics.redis_errors.labels(error.kind).inc()
                await asyncio.sleep(PAUSE_S)
                continue
            if start > self._tail.position:
                self._fall_behind(start)
            if upto > self._tail.position:
                await self._take(entries, upto)

    def _fall_behind(self, start: int) -> None:
        """The log was trimmed beyond this pod: everybody here comes back, and is told of the gap then."""
        log.warning("log.gap")
        self._tail.begin(start, start)
        for connection in self._manager:
            self._look_again(connection)

    async def _take(self, entries: Sequence[LogEntry], upto: int) -> None:
        if any(entry.target for entry in entries):
            # Whose categories changed before these were published is known then.
            await self._feed_caught_up()
            for user in self._moving():
                self._leave_to_tail(self._manager.of(user))
        meant = await self._arrive(entries)
        self._tail.position = max(upto, self._tail.position)
        self._metrics.log_entries.inc(len(entries))
        messages = await self._resolve(entries, [one.message_id for one, _ in meant])
        placed = []
        for one, connections in meant:
            if one.over:
                # Of the same id as one behind it, whose content it would bring.
                continue
            if one.message_id not in messages:
                # Its node is away: whom it means waits for it, and gets what follows behind it.
                self._leave_to_tail(connections)
            elif (message := messages[one.message_id]) is not None:
                placed.append(((one.position, message), connections))
        await _compress(placed)
        again = {one.position for one, _ in meant if one.again}
        async for mask, connections in in_slices(await _plan(placed), _weight):
            due = [one for at, (one, _) in enumerate(placed) if mask >> at & 1]
            closely = bool(again) and any(position in again for position, _ in due)
            # One for all slices: what was sent to many is confirmed, and exposed, as one.
            batch = LiveBatch(due, self._clock.now_ms(), look_closely=closely)
            async for some in slices(connections):
                self._give(some, due, batch)
        self._tail.offered = upto

    async def _arrive(self, entries: Sequence[LogEntry]) -> list[tuple[Targeted, Sequence[Connection]]]:
        """Into the tail first: who is catching up finds them there, whatever comes before they are pushed.

        Whom each means is looked up in the same turn of the loop: who comes later finds it in the tail.
        """
        now_ms = self._clock.now_ms()
        meant: list[tuple[Targeted, Sequence[Connection]]] = []
        for entry in entries:
            one = self._keep(entry, now_ms)
            if one is None:
                continue
            if found := self._manager.matching(one.target):
                meant.append((one, found))
            if len(self._manager) > SLICE:
                await asyncio.sleep(0)
        return meant

    def _keep(self, entry: LogEntry, now_ms: int) -> Targeted | None:
        """Into the tail, if it is a message that is new."""
        if entry.target is None:
            self._contents.recall(entry.message_id)
            return None
        one = Targeted(entry.position, entry.message_id, entry.target, entry.expires_at)
        return one if self._tail.append(one, now_ms) else None

    async def _resolve(self, entries: Sequence[LogEntry], wanted: Sequence[str]) -> dict[str, Message | None]:
        """The messages; None for one whose content is gone, and none at all where Redis did not tell."""
        for entry in entries:
            if entry.text:
                self._contents.warm(entry.message_id, entry.text, entry.expires_at)
        answers = await asyncio.gather(*(self._contents.get([one]) for one in wanted), return_exceptions=True)
        found: dict[str, Message | None] = {}
        for answer in answers:
            if isinstance(answer, dict):
                found |= answer
            elif not isinstance(answer, StoreError):
                raise answer
        return found

    def _leave_to_tail(self, connections: Sequence[Connection]) -> None:
        for connection in connections:
            if connection.state is State.LIVE:
                self._look_again(connection)

    def _give(self, some: Sequence[Connection], due: Sequence[Placed], batch: LiveBatch) -> None:
        """Push to some connections what all of them are due."""
        alike = len(some)
        for connection, ping_by in push_to_all(some, batch, time.monotonic()):
            if ping_by is None:
                alike -= 1
                self._offer(connection, due)
            else:
                self._pushed(connection)
        self._metrics.deliveries_live.inc(alike * batch.entry.count)

    def _offer(self, connection: Connection, due: Sequence[Placed]) -> None:
        """Push what of it this connection was not given by its catching up meanwhile, and has room for."""
        if connection.state is not State.LIVE:
            return
        log_at = connection.ledger.log_at
        if log_at >= due[0][0]:
            due = [placed for placed in due if placed[0] > log_at]
        pushed = connection.push_log(due, "live", self._clock.now_ms(), time.monotonic())
        if pushed:
            self._metrics.deliveries_live.inc(pushed)
            self._pushed(connection)
        if pushed < len(due):
            self._look_again(connection)


async def _compress(placed: Sequence[tuple[Placed, Sequence[Connection]]]) -> None:
    """Compress what takes long beforehand, one in a turn: pushed to some, a slice could meet all of them."""
    for (_, message), connections in placed:
        if len(message.frame) > LARGE_BYTES and message.on_deflated is not None:
            for most in {one.deflates_up_to for one in connections} - {0}:
                message.deflated(most)
            await asyncio.sleep(0)


async def _plan(placed: Sequence[tuple[Placed, Sequence[Connection]]]) -> Collection[Group]:
    """Who is due the same, so that all of it goes in one write to each of them."""
    if len(placed) == 1:
        return [(1, placed[0][1])]
    masks: dict[Connection, int] = {}
    for at, (_, connections) in enumerate(placed):
        bit = 1 << at
        for connection in connections:
            masks[connection] = masks.get(connection, 0) | bit
        if len(connections) > SLICE:
            await asyncio.sleep(0)
    of: defaultdict[int, list[Connection]] = defaultdict(list)
    for connection, mask in masks.items():
        of[mask].append(connection)
    return of.items()


def _weight(group: Group) -> int:
    """A batch is made of the messages, and pushed to the connections."""
    mask, connections = group
    return mask.bit_count() + len(connections)
