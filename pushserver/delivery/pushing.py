"""Pushing what waits: contents (cache, else Redis), then out within the window, at the client's own pace."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from pushserver.core.clock import StoreClock
from pushserver.core.metrics import Metrics
from pushserver.delivery.connection import Connection
from pushserver.delivery.content import Contents
from pushserver.delivery.live_batch import Placed
from pushserver.delivery.retry import until_stored
from pushserver.exposure.event import Source

__all__ = ["Pushing"]

READ_AHEAD = 32
"""Contents that are looked up at once to begin with; twice as many each time that all of them fitted."""

Due = tuple[int, str]
"""Where it is from (`delivery.sent`: a place in the log, or `INBOX`), and the message id."""


@dataclass(frozen=True, slots=True)
class _Step:
    pushed: int
    done: int
    """Messages that need no further look."""
    next_size: int
    """Bytes of the frame that did not fit; 0 if all did."""
    gone: list[str]


class Pushing:
    """Pushes messages that are known by their ids; shared by all connections."""

    def __init__(self, contents: Contents, clock: StoreClock, metrics: Metrics) -> None:
        self._contents = contents
        self._clock = clock
        self._metrics = metrics

    async def push_all(
        self, connection: Connection, due: Sequence[Due], source: Source
    ) -> tuple[int, list[str]]:
        """Push in order as the window lets them out; how many went, and behind which is no content.

        Returns early when the connection closes. Contents are looked up for what may go out now, and of
        large ones no more than a few too many: a client that waits holds none here, and costs Redis no more
        than twice what it is sent.
        """
        pushed, at, size, ahead = 0, 0, 0, READ_AHEAD
        gone: list[str] = []
        while at < len(due):
            await connection.wait_for_room(size)
            if not connection.is_open():
                break
            some = due[at : at + min(ahead, connection.room())]
            step = await self._push_some(connection, some, source)
            pushed, at, size = pushed + step.pushed, at + step.done, step.next_size
            gone += step.gone
            ahead = ahead * 2 if step.done == len(some) else max(1, step.done)
        return pushed, gone

    async def _push_some(self, connection: Connection, due: Sequence[Due], source: Source) -> _Step:
        ids = [message_id for _, message_id in due]
        found = await until_stored(lambda: self._contents.get(ids), connection.is_open)
        if found is None or not connection.is_open():
            return _Step(0, 0, 0, [])
        placed = [(place, message) for place, one in due if (message := found[one]) is not None]
        went = self._push(connection, placed, source)
        self._metrics.deliveries.labels(source).inc(went)
        done, next_size = len(due), 0
        if went < len(placed):
            next_one = placed[went][1]
            done, next_size = ids.index(next_one.id), len(next_one.frame)
        return _Step(went, done, next_size, [one for one in ids[:done] if found[one] is None])

    def _push(self, connection: Connection, placed: Sequence[Placed], source: Source) -> int:
        now_ms, now = self._clock.now_ms(), time.monotonic()
        if source == "log":
            return connection.push_log(placed, source, now_ms, now)
        return connection.push([message for _, message in placed], source, now_ms, now)
