"""A lane: the way to one engine, or to one node of a cluster, and the gate for while it is away.

Whatever is sent in one turn of the loop shares a pipeline. Under a storm the pipelines grow and their
number does not.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from functools import partial
from itertools import takewhile
from typing import Any, Protocol

import structlog
from redis import exceptions as redis_errors

from pushserver.stores.command import Command
from pushserver.stores.faults import NOT_READY
from pushserver.stores.link import Link, pack
from pushserver.stores.pool import Pool

__all__ = ["Client", "Lane", "Owner"]

log = structlog.get_logger(__name__)

MAX_PIPELINE = 500
"""Commands in a pipeline at most: building and reading one must not hold the loop."""
_ASKING = pack(("ASKING",))


class Client(Protocol):
    """What is used of `redis.asyncio.Redis`."""

    @property
    def connection_pool(self) -> Any:
        """Where its links are: a `Pool`."""


class Owner(Protocol):
    """Whom a lane tells what came back, and who resolves or refuses the commands."""

    def answered(self, lane: Lane, batch: list[Command], results: list[Any], seconds: float) -> set[str]:
        """A round trip was answered; says the kinds of error among its results."""

    def lost(self, batch: list[Command], error: BaseException) -> None:
        """A round trip failed as a whole."""

    def late(self, commands: list[Command], *, away: bool) -> None:
        """These were not answered in time; some may have been resolved meanwhile."""


class _Flight:
    """A pipeline on its way."""

    __slots__ = ("batch", "link", "started", "trying")

    def __init__(self, batch: list[Command], started: float, *, trying: bool) -> None:
        self.batch = batch
        self.started = started
        self.trying = trying
        """It left while the engine was away."""
        self.link: Link | None = None
        """None while one is opened for it."""


class Lane:
    """Sends commands in the order given, at most `max_in_flight` pipelines at a time.

    Every command is answered or fails within `timeout_s` and a tenth: with kind `timeout`, or `away` if the
    engine was known to be away. A pipeline that is not answered as a whole in that time is cut, and so is the
    link it travels on.

    After a round trip that failed as a whole, or that says the engine is not ready (loading, read-only),
    the engine counts as away: one pipeline at a time tries it, with a pause of 0.1 to 1 s between two tries
    however many commands wait. So whoever retries need not care how fast.
    """

    def __init__(self, client: Client, owner: Owner, *, timeout_s: float, max_in_flight: int) -> None:
        self._pool: Pool = client.connection_pool
        self._owner = owner
        self._timeout_s = timeout_s
        self._max_in_flight = max_in_flight
        self._waiting: deque[Command] = deque()
        self._in_flight: set[_Flight] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._flush_due = False
        self._now = 0.0
        """Second of the loop in which the flush became due."""
        self._pause_s = 0.0
        self._most = MAX_PIPELINE
        """Commands in a pipeline now: fewer after a try was lost, for its answers may have been too large."""
        self._try_at = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._landing: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def away(self) -> bool:
        """The last round trip failed as a whole: the engine does not answer, or not yet."""
        return self._pause_s > 0

    @property
    def waiting(self) -> int:
        """Commands not yet sent."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing travels."""
        return not self._waiting and not self._in_flight

    # -- sending

    def send(self, command: Command) -> None:
        """Send at the end of this turn of the loop."""
        self._waiting.append(command)
        if not self._flush_due:
            self._flush_soon()
        if not command.since:
            command.since = self._now

    def send_first(self, commands: list[Command]) -> None:
        """Send commands of this lane once more, before all others, in this order."""
        self._waiting.extendleft(reversed(commands))

    def take_waiting(self) -> list[Command]:
        """Give up all that was not sent yet; somebody else will send it."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def _flush_soon(self) -> None:
        loop = asyncio.get_running_loop()
        self._flush_due = True
        self._now = loop.time()
        loop.call_soon(self._flush)
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._timeout_s / 10, self._sweep)

    def _flush(self) -> None:
        self._flush_due = False
        if self._closed or (self.away and not self._may_try()):
            return
        most = 1 if self.away else self._max_in_flight
        while len(self._in_flight) < most and (batch := self._take()):
            self._depart(_Flight(batch, asyncio.get_running_loop().time(), trying=self.away))

    def _take(self) -> list[Command]:
        batch: list[Command] = []
        while self._waiting and len(batch) < self._most:
            command = self._waiting.popleft()
            # What nobody waits for any more is not worth sending.
            if command.is_wanted():
                batch.append(command)
        return batch

    def _may_try(self) -> bool:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._try_at:
            return True
        if self._waiting and self._retry is None:
            self._retry = loop.call_at(self._try_at, self._try_again)
        return False

    def _try_again(self) -> None:
        self._retry = None
        self._flush()

    # -- the round trip

    def _depart(self, flight: _Flight) -> None:
        self._in_flight.add(flight)
        link = self._pool.idle_link()
        if link is not None:
            self._board(flight, link)
            return
        task = asyncio.get_running_loop().create_task(self._open(flight), name="redis link")
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, flight: _Flight) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                link = await self._pool.open_link()
        except BaseException as error:
            self._landed(flight, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._board(flight, link)

    def _board(self, flight: _Flight, link: Link) -> None:
        flight.link = link
        link.send(self._parts(flight.batch), partial(self._landed, flight))

    def _parts(self, batch: list[Command]) -> list[bytes]:
        """What is sent for a batch, each part answered by one answer."""
        parts = []
        for command in batch:
            if command.asking:
                parts.append(_ASKING)
            parts.append(command.packed)
        return parts

    def _results(self, batch: list[Command], answers: list[Any]) -> list[Any]:
        """The answer of each command, of all that came for `_parts`."""
        if len(answers) == len(batch):
            return answers
        left = iter(answers)
        results = []
        for command in batch:
            if command.asking:
                next(left)
            results.append(next(left))
        return results

    def _landed(self, flight: _Flight, outcome: list[Any] | BaseException) -> None:
        self._in_flight.discard(flight)
        if flight.link is not None:
            self._pool.give_back(flight.link)
        try:
            if isinstance(outcome, BaseException):
                self._lost(flight)
                self._owner.lost(flight.batch, outcome)
            else:
                self._answered(flight, outcome)
        except Exception as error:
            log.error("redis.batch_broken", error=repr(error))
        if self._waiting and not self._flush_due:
            # Not now: those who were just answered may ask for more.
            self._flush_soon()
        if self._landing is not None and not self._landing.done():
            self._landing.set_result(None)

    def _answered(self, flight: _Flight, answers: list[Any]) -> None:
        results = self._results(flight.batch, answers)
        seconds = asyncio.get_running_loop().time() - flight.started
        kinds = self._owner.answered(self, flight.batch, results, seconds)
        if kinds & NOT_READY:
            self._lost(flight)
            return
        self._pause_s = 0.0
        self._most = min(MAX_PIPELINE, self._most * 2)
        if "durability" in kinds:
            # Its replicas may have left with another master.
            self._pool.drop_idle()

    def _lost(self, flight: _Flight) -> None:
        # What was on its way when the engine went away is no try of its own: all of it fails at once.
        grown = self._pause_s * 2 if flight.trying else self._pause_s
        self._pause_s = min(1.0, max(0.1, grown))
        if flight.trying:
            self._most = max(1, self._most // 2)
        # Jitter, so that the pods of a cluster do not come back in step. No secret hangs on it.
        pause = self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311
        self._try_at = asyncio.get_running_loop().time() + pause
        # After a failover the old master may hang, or answer under an address that now leads to another.
        self._pool.drop_idle()

    # -- time-outs

    def _sweep(self) -> None:
        """Refuse what has no answer in time, now and then until nothing is left."""
        loop = asyncio.get_running_loop()
        late = loop.time() - self._timeout_s
        expired: list[Command] = []
        while self._waiting and self._waiting[0].since <= late:
            expired.append(self._waiting.popleft())
        for flight in self._in_flight:
            # Its pipeline goes on, and what comes back for them is dropped.
            expired += takewhile(lambda command: command.since <= late, flight.batch)
        if expired:
            self._owner.late(expired, away=self.away)
        for flight in [flight for flight in self._in_flight if flight.started <= late]:
            # Opening a link has a time-out of its own.
            if flight.link is not None:
                flight.link.cut(redis_errors.TimeoutError("no answer in time"))
        self._sweeper = None if self.idle else loop.call_later(self._timeout_s / 10, self._sweep)

    async def close(self) -> list[Command]:
        """Wait for what travels; answers what still waits. Nothing is sent afterwards.

        Nor is it when the wait is cancelled.
        """
        try:
            while self._in_flight:
                self._landing = asyncio.get_running_loop().create_future()
                await self._landing
        finally:
            self._closed = True
            for timer in (self._retry, self._sweeper):
                if timer is not None:
                    timer.cancel()
        return self.take_waiting()
