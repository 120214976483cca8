"""Reaping: a pod that is dead leaves no presence behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from pushserver.core.clock import StoreClock
from pushserver.core.errors import StoreError
from pushserver.core.metrics import Metrics
from pushserver.stores.lease import LeaseStore
from pushserver.stores.presence import PresenceStore

__all__ = ["Reaper"]

log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""A dead pod's presence is to be gone 2 s after its lease, however long leases are."""


class Reaper:
    """Removes what expired pods left. Any pod may do it, several at once; every step is idempotent.

    The claim takes the lease away in the script that reads its expiry, so its holder cannot renew it;
    then each presence field whose boot is not newer than the dead one goes, then the pod's keys as a whole.
    """

    def __init__(
        self,
        leases: LeaseStore,
        presence: PresenceStore,
        clock: StoreClock,
        metrics: Metrics,
        *,
        lease_ms: int,
        last_fault: Callable[[], float | None],
    ) -> None:
        self._leases = leases
        self._presence = presence
        self._clock = clock
        self._metrics = metrics
        self._lease_s = lease_ms / 1000
        self._last_fault = last_fault
        self._started = time.monotonic()

    async def run(self) -> None:
        """Reap every second, or three times a short lease, until cancelled.

        Beside the heartbeat: a large pod takes its time.
        """
        while True:
            await asyncio.sleep(min(self._lease_s / 3, LOOK_S))
            try:
                await self.reap()
            except StoreError as error:
                log.warning("reaper.failed", reason=error.kind)

    async def reap(self) -> None:
        """Reap every pod whose lease has run out; what fails is for the next time. Raises `StoreError`.

        Not before Redis has answered for one full lease without a fault: a Redis that hung makes every pod
        look dead. That only spares work; the boots keep it right.
        """
        sound_since = max(self._started, self._last_fault() or 0.0)
        if time.monotonic() - sound_since < self._lease_s:
            return
        for pod in await self._leases.expired(self._clock.now_ms()):
            try:
                await self._reap(pod)
            except StoreError as error:
                # One node of a cluster may be away; other pods' keys are on others.
                log.warning("reaper.failed", dead_pod=pod, reason=error.kind)

    async def _reap(self, pod: str) -> None:
        boot = await self._leases.claim(pod)
        if boot == 0:
            return
        removed = await self._remove_all(pod, boot) if boot > 0 else 0
        await self._leases.forget(pod, boot)
        self._metrics.pods_reaped.inc()
        log.info("pod.reaped", dead_pod=pod, dead_boot=boot, users=removed)

    async def _remove_all(self, pod: str, boot: int) -> int:
        """Remove every presence field there; raises what failed only after all were tried."""
        removed, failed = 0, None
        async for users in self._presence.indexed(pod):
            removals = (self._presence.remove(boot, user, pod) for user in users)
            for answer in await asyncio.gather(*removals, return_exceptions=True):
                if isinstance(answer, BaseException):
                    failed = answer
                else:
                    removed += answer
        if failed is not None:
            raise failed
        return removed
