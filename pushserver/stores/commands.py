"""Commands, batched by tick: whatever is asked for in one turn of the loop shares a pipeline.

A connect costs the same few commands whatever the load; under a storm the pipelines grow and their
number does not. Two commands have an order only if the second is sent after the first was answered, or
if one script holds both: pipelines may travel side by side.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

import structlog

from pushserver.core.errors import StoreError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.stores.faults import is_noscript, store_error
from pushserver.stores.scripts import Script, script

__all__ = ["Argument", "Commands"]

Argument = str | bytes | int | float

log = structlog.get_logger(__name__)

MAX_PIPELINE = 500
"""Commands in a pipeline at most: building and reading one must not hold the loop (about 15 us each)."""


class Client(Protocol):
    """What is used of `redis.asyncio.Redis` and `RedisCluster`."""

    def pipeline(self, transaction: Any = ...) -> Any:
        """A pipeline that is not a transaction."""


class _Command:
    __slots__ = ("answer", "args", "script", "since")

    def __init__(
        self, args: tuple[Argument, ...], answer: asyncio.Future[Any], text: Script | None, since: float
    ) -> None:
        self.args = args
        self.answer = answer
        self.script = text
        self.since = since

    def send_text(self, text: Script) -> None:
        """Send the whole script next time, which also teaches it to the engine; once."""
        self.args = ("EVAL", text.text, *self.args[2:])
        self.script = None


class Commands:
    """The one way to Redis. Answers are as the protocol has them: bytes, integers, lists, None.

    A waiter that is cancelled cancels nothing but its own waiting: the pipeline it shares goes on, so no
    other command can get its answer. At most `max_in_flight` pipelines travel at a time, and at most
    `max_waiting` commands wait for one; beyond that a command fails at once with kind `busy`.

    After a round trip that failed as a whole Redis counts as away: one pipeline at a time tries it, with a
    pause of 0.1 to 1 s between two tries however many commands wait, and what has waited for `timeout_s`
    fails with kind `away`. So whoever retries need not care how fast.
    """

    def __init__(
        self,
        client: Client,
        metrics: Metrics,
        *,
        timeout_s: float,
        max_in_flight: int = 4,
        max_waiting: int = 200_000,
    ) -> None:
        self._client = client
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._max_in_flight = max_in_flight
        self._max_waiting = max_waiting
        self._waiting: deque[_Command] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._flush_due = False
        self._pause_s = 0.0
        self._try_at = 0.0
        self._retry: asyncio.TimerHandle | None = None
        self.last_fault: float | None = None
        """Monotonic second of the last failed round trip; None while there was none."""

    def call(self, *args: Argument) -> Awaitable[Any]:
        """Send one command. Raises `StoreUnavailableError` or `StoreRefusedError` when awaited."""
        return self._send(args, None)

    def script(self, name: str, keys: Sequence[str], args: Sequence[Argument]) -> Awaitable[Any]:
        """Run `lua/NAME.lua` with keys of one slot; an engine that does not know it is taught it once."""
        text = script(name)
        return self._send(("EVALSHA", text.sha, len(keys), *keys, *args), text)

    def _send(self, args: tuple[Argument, ...], text: Script | None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if len(self._waiting) >= self._max_waiting:
            answer.set_exception(StoreUnavailableError("busy", "too many commands wait for Redis"))
            return answer
        self._waiting.append(_Command(args, answer, text, loop.time()))
        if not self._flush_due:
            self._flush_due = True
            loop.call_soon(self._flush)
        return answer

    def _flush(self) -> None:
        self._flush_due = False
        if self.away and not self._may_try():
            return
        most = 1 if self.away else self._max_in_flight
        while self._waiting and len(self._in_flight) < most:
            size = min(len(self._waiting), MAX_PIPELINE)
            batch = [self._waiting.popleft() for _ in range(size)]
            task = asyncio.get_running_loop().create_task(self._round_trip(batch), name="redis round trip")
            self._in_flight.add(task)
            task.add_done_callback(self._landed)

    def _may_try(self) -> bool:
        loop = asyncio.get_running_loop()
        late = loop.time() - self._timeout_s
        while self._waiting and self._waiting[0].since <= late:
            self._refuse(self._waiting.popleft(), StoreUnavailableError("away", "Redis does not answer"))
        if loop.time() >= self._try_at:
            return True
        if self._waiting and self._retry is None:
            self._retry = loop.call_at(self._try_at, self._try_again)
        return False

    def _try_again(self) -> None:
        self._retry = None
        self._flush()

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("redis.batch_broken", error=repr(error))
        self._flush()

    async def _round_trip(self, batch: list[_Command]) -> None:
        started = time.monotonic()
        try:
            results = await self._execute(batch)
        except BaseException as error:
            self._lost()
            self._fail(batch, error)
            if isinstance(error, Exception):
                return
            raise
        self._metrics.redis_round_trip(len(batch), time.monotonic() - started)
        self._pause_s = 0.0
        again = []
        for command, result in zip(batch, results, strict=True):
            if command.script is not None and is_noscript(result):
                command.send_text(command.script)
                again.append(command)
            else:
                self._answer(command, result)
        self._first(again)

    async def _execute(self, batch: list[_Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in batch:
            pipeline.execute_command(*command.args)
        async with asyncio.timeout(self._timeout_s):
            results: list[Any] = await pipeline.execute(raise_on_error=False)
        return results

    def _lost(self) -> None:
        self._pause_s = min(1.0, self._pause_s * 2 or 0.1)
        # Jitter, so that the pods of a cluster do not come back in step. No secret hangs on it.
        pause = self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311
        self._try_at = asyncio.get_running_loop().time() + pause

    def _first(self, commands: list[_Command]) -> None:
        self._waiting.extendleft(reversed(commands))
        if commands:
            self._flush()

    def _answer(self, command: _Command, result: Any) -> None:
        if isinstance(result, Exception):
            self._refuse(command, self._fault(result))
        elif not command.answer.done():
            command.answer.set_result(result)

    def _fail(self, batch: list[_Command], error: BaseException) -> None:
        fault = self._fault(error)
        for command in batch:
            self._refuse(command, fault)

    def _fault(self, error: BaseException) -> StoreError:
        fault = store_error(error)
        if isinstance(fault, StoreUnavailableError):
            self.last_fault = time.monotonic()
        self._metrics.redis_errors.labels(fault.kind).inc()
        return fault

    @staticmethod
    def _refuse(command: _Command, fault: StoreError) -> None:
        if not command.answer.done():
            # One instance for each waiter: a traceback grows on the instance each time it is raised.
            command.answer.set_exception(type(fault)(fault.kind, fault.reason))
            # Whoever was cancelled meanwhile looks no more; that is no "exception never retrieved".
            command.answer.exception()

    @property
    def away(self) -> bool:
        """The last round trip failed as a whole: Redis does not answer."""
        return self._pause_s > 0

    @property
    def waiting(self) -> int:
        """Commands not yet sent: the length of the queue, for the metrics."""
        return len(self._waiting)

    async def close(self) -> None:
        """Wait for what travels, then fail what waits. Nothing may be sent afterwards."""
        while self._in_flight:
            await asyncio.gather(*self._in_flight, return_exceptions=True)
        if self._retry is not None:
            self._retry.cancel()
        self._fail(list(self._waiting), StoreUnavailableError("closed", "the pod is leaving"))
        self._waiting.clear()
