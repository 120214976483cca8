"""This pod's lease: taken at start, renewed by heartbeat, taken anew under a new boot when it lapsed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from pushserver.core.clock import StoreClock
from pushserver.core.errors import StoreError, TakenOverError
from pushserver.core.metrics import Metrics
from pushserver.delivery.presence import Presence
from pushserver.stores.lease import LeaseAnswer, LeaseStore
from pushserver.stores.presence import PresenceStore

__all__ = ["Lease"]

log = structlog.get_logger(__name__)


class Lease:
    """Keeps the lease. Boots are ordered, so the larger boot of a name wins, at once."""

    def __init__(
        self,
        store: LeaseStore,
        presence_store: PresenceStore,
        presence: Presence,
        clock: StoreClock,
        metrics: Metrics,
        *,
        pod: str,
        lease_ms: int,
        about: Mapping[str, str],
    ) -> None:
        self._store = store
        self._presence_store = presence_store
        self._presence = presence
        self._clock = clock
        self._metrics = metrics
        self._pod = pod
        self._lease_s = lease_ms / 1000
        self._about = about
        self._soon = asyncio.Event()
        self.boot = 0
        """The boot that this process took, or is about to; `Presence.boot` follows when it is registered."""
        self.on_new_boot: Callable[[], None] = lambda: None
        """Called when the lease had lapsed and was taken anew: messages may have gone by unseen."""
        self.open_feed: Callable[[int], Awaitable[None]] = _nothing
        """Makes the feed under a new boot, before presence is written under it."""
        self.check_feed: Callable[[int | None], Awaitable[None]] = _nothing
        """Told with each renewal where the feed begins, None if it is gone."""

    async def start(self) -> None:
        """Take the name. Raises `StoreError`, or `TakenOverError` if a still newer process was quicker."""
        await self._take()
        await self._register()

    def check_soon(self) -> None:
        """Something looks as if the name was taken over: beat now."""
        self._soon.set()

    async def run(self) -> None:
        """Beat until cancelled, three times a lease. Raises `TakenOverError` when a larger boot is found."""
        while True:
            pause = self._lease_s / 3
            try:
                await self._beat()
            except StoreError as error:
                log.warning("lease.heartbeat_failed", reason=error.kind)
                pause = self._lease_s / 10
            await self._rest(pause)

    async def _rest(self, pause: float) -> None:
        try:
            async with asyncio.timeout(pause):
                await self._soon.wait()
        except TimeoutError:
            pass
        self._soon.clear()

    async def _beat(self) -> None:
        answer = await self._store.renew(self.boot)
        self._clock.adjust(answer.now_ms)
        if not answer.held:
            self._refuse_newer(answer)
            log.warning("lease.lapsed", pod=self._pod, boot=self.boot)
            self._metrics.lease_lapses.inc()
            await self._take()
        elif self._presence.boot == self.boot:
            await self.check_feed(answer.feed_first)
        if self._presence.boot != self.boot:
            # Just taken, or taken earlier by a heartbeat whose answers were lost.
            await self._register()
            self.on_new_boot()

    async def _take(self) -> None:
        # Known before it is asked for: if the answer is lost, the boot that holds the name is our own.
        self.boot = await self._store.new_boot(self.boot)
        answer = await self._store.take(self.boot, self._about)
        if answer.newer_is_dead:
            # Boots are counted anew after the counter was lost; the dead one is no reason to stay away.
            self.boot = await self._store.new_boot(answer.newer_boot)
            answer = await self._store.take(self.boot, self._about)
        self._clock.adjust(answer.now_ms)
        self._refuse_newer(answer)

    async def _register(self) -> None:
        """Everyone who is here, or was under an earlier boot, is reconciled under this one."""
        await self.open_feed(self.boot)
        indexed = [user async for users in self._presence_store.indexed(self._pod) for user in users]
        self._presence.register_anew(self.boot, indexed)
        self._metrics.pod_boot.set(self.boot)
        log.info("lease.taken", pod=self._pod, boot=self.boot, users_to_reconcile=len(indexed))

    def _refuse_newer(self, answer: LeaseAnswer) -> None:
        if answer.newer_boot:
            raise TakenOverError(self._pod, answer.newer_host)

    async def release(self) -> bool:
        """Give the name up; what a newer boot holds is not touched. Raises `StoreError`."""
        return await self._store.release(self.boot)


async def _nothing(_: object) -> None:
    """There is no feed."""
