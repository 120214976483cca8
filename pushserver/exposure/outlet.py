"""The outlet: what delivery hands events to, whether the sink is there or away.

    accept -> the sink works: publish -> accepted
           -> it failed, or is away: add to the spool -> accepted
    watch  -> now and then, and with a back-off while the sink is away: move the spool on

Once a publish failed, the sink is *away*: events go straight to the spool, and only the watch tries the
sink, with one spooled event. The first that it accepts brings the sink back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import structlog

from pushserver.core.alarm import Alarm
from pushserver.core.errors import SinkError, StoreError
from pushserver.core.metrics import Metrics
from pushserver.exposure.backoff import Backoff
from pushserver.exposure.event import Event
from pushserver.exposure.mover import MOVE_AT_ONCE, Mover, Spool
from pushserver.exposure.sink import Sink
from pushserver.exposure.stream_sink import StreamSink

__all__ = ["Outlet"]

log = structlog.get_logger(__name__)

LOOK_S = 15.0
"""Seconds between looks into the spool while the sink works: dead pods may have left something."""

FIRST_RETRY_S = 0.5
MOST_RETRY_S = 10.0

SPOOL_SHARE = 0.25
"""Share of a drain's time that is kept for spooling what the sink did not take."""


class Outlet:
    """Hands events to the sink or, while that is away, to the spool; moves spooled ones on.

    `spool` is None when the sink is the stream itself, or `none`. `pause` waits between tries.
    """

    def __init__(
        self,
        sink: Sink,
        spool: Spool | None,
        pod: str,
        metrics: Metrics,
        *,
        look_s: float = LOOK_S,
        alarm: Alarm | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sink = sink
        self._spool = None if spool is None else StreamSink(spool, metrics, Alarm())
        self._mover = None if spool is None else Mover(spool, sink, pod, metrics)
        self._metrics = metrics
        self._published = metrics.exposures.labels("published")
        self._spooled = metrics.exposures.labels("spooled")
        self._looks = Backoff(look_s, look_s)
        self._alarm = alarm or Alarm()
        self._alarmed = False
        self._pause = pause
        self._backoff = Backoff(FIRST_RETRY_S, MOST_RETRY_S)
        self._away = asyncio.Event()
        self._accepting = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect the sink and begin to watch the spool. A sink that is not there is away, no error.

        Raises `SinkError` only without a spool.
        """
        try:
            await self._sink.start()
        except SinkError as error:
            self._fail(error)
            if self._spool is None:
                raise
        if self._mover is not None:
            self._watch = asyncio.create_task(self._watch_spool(self._mover), name="exposure spool")

    async def accept(self, events: Sequence[Event]) -> None:
        """Return when the sink or the spool has the events: then what they record may be settled.

        Raises `SinkError` if neither took all of them. The caller then settles nothing and comes again;
        what was taken already is ignored by the store.
        """
        with self._counted(events) as count:
            if self._spool is None:
                await self._publish(events, count)
                return
            if not self._away.is_set():
                with suppress(SinkError):
                    await self._publish(events, count)
                    return
            await self._add_to_spool(self._spool, events, count)

    async def drain(self, deadline: float) -> None:
        """For an orderly exit: let the sink take what it holds, spool the rest, disconnect.

        `deadline` is a time of the running loop's clock. Stops watching at once; entries of the spool
        are any pod's. Shortly before the deadline the sink is closed, so what it has not taken goes to the
        spool. Later calls of `accept` go to the spool, or raise without one. Twice is once.
        """
        await self._stop_watching()
        now = asyncio.get_running_loop().time()
        await self._quiet_until(deadline - max(0.0, deadline - now) * SPOOL_SHARE)
        await self._sink.close()
        await self._quiet_until(deadline)

    @contextmanager
    def _counted(self, events: Sequence[Event]) -> Iterator[int]:
        """Keep `exposure_pending`, and know when no `accept` is under way."""
        count = sum(event.count for event in events)
        self._metrics.exposure_pending.inc(count)
        self._accepting += 1
        self._quiet.clear()
        try:
            yield count
        finally:
            self._metrics.exposure_pending.dec(count)
            self._accepting -= 1
            if not self._accepting:
                self._quiet.set()

    async def _publish(self, events: Sequence[Event], count: int) -> None:
        try:
            await self._sink.publish(events)
        except SinkError as error:
            self._fail(error)
            raise
        self._published.inc(count)
        if self._mover is not None:
            self._mover.proved = True
        self._back()

    async def _add_to_spool(self, spool: StreamSink, events: Sequence[Event], count: int) -> None:
        try:
            await spool.publish(events)
        except SinkError as error:
            self._metrics.exposure_failures.labels(error.kind).inc()
            raise
        self._spooled.inc(count)

    def _fail(self, error: SinkError) -> None:
        """The sink is away from now on; said once a minute while that lasts."""
        self._metrics.exposure_failures.labels(error.kind).inc()
        self._away.set()
        if self._alarm.due():
            self._alarmed = True
            log.error("exposure.sink_away", kind=error.kind, reason=error.reason)

    def _back(self) -> None:
        """The sink took something."""
        self._backoff.reset()
        if self._alarmed:
            self._alarmed = False
            log.info("exposure.sink_back")

    async def _watch_spool(self, mover: Mover) -> None:
        await self._guarded(mover.tidy)
        while True:
            await self._guarded(lambda: self._move_all(mover))
            await self._until_next_look()

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        """Nothing may end the watch: a spool that nobody moves on is a loss that nobody sees."""
        try:
            await step()
        except SinkError as error:
            self._fail(error)
        except StoreError as error:
            self._metrics.exposure_failures.labels(f"redis_{error.kind}").inc()
        except Exception:
            self._metrics.task_failures.inc()
            log.exception("exposure.watch_broken")

    async def _move_all(self, mover: Mover) -> None:
        while await mover.move(1 if self._away.is_set() else MOVE_AT_ONCE):
            self._away.clear()
            self._back()
        # Nothing left to try the sink with: the next event does.
        self._away.clear()

    async def _until_next_look(self) -> None:
        """Wait for the next look, or until the sink fails and then for the back-off."""
        if not self._away.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._looks.next_s()):
                    await self._away.wait()
        if self._away.is_set():
            await self._pause(self._backoff.next_s())

    async def _stop_watching(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait([watch])

    async def _quiet_until(self, deadline: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._quiet.wait()
