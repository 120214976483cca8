"""A lane: the way to one engine, or to one node of a cluster, and the gate for while it is away.

Whatever is sent in one turn of the loop shares a pipeline. Under a storm the pipelines grow and their
number does not.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterable
from itertools import takewhile
from typing import Any, Protocol

import structlog

from pushserver.core.errors import StoreError
from pushserver.stores.faults import NOT_READY
from pushserver.stores.scripts import Script

__all__ = ["Argument", "Client", "Command", "Lane", "Owner", "teach"]

Argument = str | bytes | int | float

log = structlog.get_logger(__name__)

MAX_PIPELINE = 500
"""Commands in a pipeline at most: building and reading one must not hold the loop (about 15 us each)."""


class Client(Protocol):
    """What is used of `redis.asyncio.Redis`."""

    @property
    def connection_pool(self) -> Any:
        """Where its connections are."""

    def pipeline(self, transaction: Any = ...) -> Any:
        """A pipeline that is not a transaction."""


class Command:
    """A command on its way, and the future of its answer."""

    __slots__ = ("answer", "args", "asking", "publishes", "redirects", "script", "since")

    def __init__(
        self,
        args: tuple[Argument, ...],
        answer: asyncio.Future[Any],
        script: Script | None,
        since: float,
        *,
        publishes: bool,
    ) -> None:
        self.args = args
        self.answer = answer
        self.script = script
        self.since = since
        self.publishes = publishes
        """Takes the publish lane."""
        self.asking = False
        """Sent behind ASKING, to the node that a slot is moving to."""
        self.redirects = 0

    def send_text(self, script: Script) -> None:
        """Send the whole script next time, which also teaches it to the engine."""
        self.args = (b"EVAL", script.text, *self.args[2:])
        self.script = None

    def resolve(self, result: Any) -> None:
        """Hand the answer to whoever still waits for it."""
        if not self.answer.done():
            self.answer.set_result(result)

    def refuse(self, fault: StoreError) -> None:
        """Hand the error to whoever still waits."""
        if not self.answer.done():
            # One instance for each waiter: a traceback grows on the instance each time it is raised.
            self.answer.set_exception(type(fault)(fault.kind, fault.reason))
            # Whoever was cancelled meanwhile looks no more; that is no "exception never retrieved".
            self.answer.exception()


def teach(commands: Iterable[Command]) -> None:
    """Let the first command of each script carry its text; the others follow on the same connection."""
    taught: set[str] = set()
    for command in commands:
        if command.script is not None and command.script.name not in taught:
            taught.add(command.script.name)
            command.send_text(command.script)


class Owner(Protocol):
    """Whom a lane tells what came back, and who resolves or refuses the commands."""

    def answered(self, lane: Lane, batch: list[Command], results: list[Any], seconds: float) -> set[str]:
        """A round trip was answered; says the kinds of error among its results."""

    def lost(self, batch: list[Command], error: BaseException) -> None:
        """A round trip failed as a whole."""

    def late(self, commands: list[Command], *, away: bool) -> None:
        """These were not answered in time; some may have been resolved meanwhile."""


class Lane:
    """Sends commands in the order given, at most `max_in_flight` pipelines at a time.

    Every command is answered or fails within `timeout_s` and a tenth: with kind `timeout`, or `away` if the
    engine was known to be away.

    After a round trip that failed as a whole, or that says the engine is not ready (loading, read-only),
    the engine counts as away: one pipeline at a time tries it, with a pause of 0.1 to 1 s between two tries
    however many commands wait. So whoever retries need not care how fast.
    """

    def __init__(self, client: Client, owner: Owner, *, timeout_s: float, max_in_flight: int) -> None:
        self._client = client
        self._owner = owner
        self._timeout_s = timeout_s
        self._max_in_flight = max_in_flight
        self._waiting: deque[Command] = deque()
        self._in_flight: dict[asyncio.Task[None], list[Command]] = {}
        self._flush_due = False
        self._pause_s = 0.0
        self._most = MAX_PIPELINE
        """Commands in a pipeline now: fewer after a try was lost, for its answers may have been too large."""
        self._try_at = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.TimerHandle | None = None

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
        if self._sweeper is None:
            self._sweep()
        if not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def send_first(self, commands: list[Command]) -> None:
        """Send commands of this lane once more, before all others, in this order."""
        self._waiting.extendleft(reversed(commands))

    def take_waiting(self) -> list[Command]:
        """Give up all that was not sent yet; somebody else will send it."""
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def _flush(self) -> None:
        self._flush_due = False
        if self.away and not self._may_try():
            return
        most = 1 if self.away else self._max_in_flight
        while len(self._in_flight) < most and (batch := self._take()):
            task = asyncio.get_running_loop().create_task(self._round_trip(batch), name="redis round trip")
            self._in_flight[task] = batch
            task.add_done_callback(self._landed)

    def _take(self) -> list[Command]:
        batch: list[Command] = []
        while self._waiting and len(batch) < self._most:
            command = self._waiting.popleft()
            # What nobody waits for any more is not worth sending.
            if not command.answer.done():
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

    async def _round_trip(self, batch: list[Command]) -> None:
        started, trying = time.monotonic(), self.away
        try:
            results = await self._execute(batch)
        except BaseException as error:
            self._lost(trying)
            self._owner.lost(batch, error)
            if isinstance(error, Exception):
                await self._reconnect()
                return
            raise
        kinds = self._owner.answered(self, batch, results, time.monotonic() - started)
        if kinds & NOT_READY:
            self._lost(trying)
            await self._reconnect()
            return
        self._pause_s = 0.0
        self._most = min(MAX_PIPELINE, self._most * 2)
        if "durability" in kinds:
            # Its replicas may have left with another master.
            await self._reconnect()

    async def _execute(self, batch: list[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        self._fill(pipeline, batch)
        async with asyncio.timeout(self._timeout_s):
            results: list[Any] = await pipeline.execute(raise_on_error=False)
        return self._results(batch, results)

    def _fill(self, pipeline: Any, batch: list[Command]) -> None:
        for command in batch:
            if command.asking:
                pipeline.execute_command("ASKING")
            pipeline.execute_command(*command.args)

    def _results(self, batch: list[Command], answers: list[Any]) -> list[Any]:
        """The answer of each command, of all that the pipeline brought."""
        left = iter(answers)
        results = []
        for command in batch:
            if command.asking:
                next(left)
            results.append(next(left))
        return results

    async def _reconnect(self) -> None:
        # After a failover the old master may hang, or answer under an address that now leads to another.
        await self._client.connection_pool.disconnect(inuse_connections=False)

    def _lost(self, trying: bool) -> None:
        # What was on its way when the engine went away is no try of its own: all of it fails at once.
        grown = self._pause_s * 2 if trying else self._pause_s
        self._pause_s = min(1.0, max(0.1, grown))
        if trying:
            self._most = max(1, self._most // 2)
        # Jitter, so that the pods of a cluster do not come back in step. No secret hangs on it.
        pause = self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311
        self._try_at = asyncio.get_running_loop().time() + pause

    def _landed(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("redis.batch_broken", error=repr(error))
        self._flush()

    # -- time-outs

    def _sweep(self) -> None:
        """Refuse what has no answer in time, now and then until nothing is left."""
        loop = asyncio.get_running_loop()
        late = loop.time() - self._timeout_s
        expired: list[Command] = []
        while self._waiting and self._waiting[0].since <= late:
            expired.append(self._waiting.popleft())
        for batch in self._in_flight.values():
            # Its pipeline goes on, and what comes back for them is dropped.
            expired += takewhile(lambda command: command.since <= late, batch)
        if expired:
            self._owner.late(expired, away=self.away)
        self._sweeper = None if self.idle else loop.call_later(self._timeout_s / 10, self._sweep)

    async def close(self) -> list[Command]:
        """Wait for what travels; answers what still waits. Nothing may be sent afterwards."""
        while self._in_flight:
            await asyncio.gather(*self._in_flight, return_exceptions=True)
        for timer in (self._retry, self._sweeper):
            if timer is not None:
                timer.cancel()
        return self.take_waiting()
