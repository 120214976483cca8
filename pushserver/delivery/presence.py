"""Presence is reconciled, not commanded.

The Manager is the truth about this pod. A change marks the user dirty; a flush writes what is true when
it looks at the Manager. Connect and disconnect races, flapping and outages of Redis need no other code.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

import structlog

from pushserver.core.clock import StoreClock
from pushserver.core.errors import StoreError
from pushserver.core.metrics import Metrics
from pushserver.delivery.manager import Manager
from pushserver.delivery.tasks import Tasks
from pushserver.stores.presence import FirstPage, PresenceStore

__all__ = ["Presence"]

log = structlog.get_logger(__name__)

MAX_BATCH = 1000
MAX_FLUSHES = 8

Waiters = dict[str, list[asyncio.Future[FirstPage | None]]]


class Presence:
    """Flushes dirty users. A user is in one flush at a time, so an older write never lands after a newer.

    In a flush: the index entry is written and answered before the presence field is sent, and the field
    removed and answered before the index entry, so `pod-users` is always a superset. A flush resolves only
    those waiters that were there when it looked at the Manager.
    """

    def __init__(
        self,
        store: PresenceStore,
        manager: Manager,
        clock: StoreClock,
        metrics: Metrics,
        tasks: Tasks,
        *,
        page: int,
    ) -> None:
        self._store = store
        self._manager = manager
        self._clock = clock
        self._metrics = metrics
        self._tasks = tasks
        self._page = page
        self._dirty: dict[str, None] = {}
        self._flushing: set[str] = set()
        self._resting: set[str] = set()
        self._flushes = 0
        self._due = False
        self._waiters: Waiters = {}
        self._indexed: set[str] = set()
        self._announced: dict[str, object] = {}
        self.boot = 0
        """The boot to write under; 0 until there is a lease, and nothing is flushed before."""
        self.on_taken_over: Callable[[], None] = lambda: None
        """Called when a presence field of a newer boot was met."""

    # -- what others ask for

    def mark(self, user: str) -> None:
        """The user may have come or gone: reconcile."""
        self._dirty[user] = None
        self._schedule()

    async def flushed(self, user: str) -> FirstPage | None:
        """Mark dirty and wait until presence was written by a flush that begins after this call.

        The answer is the inbox as it stood right after the write; None if the user had gone by then. It
        waits as long as Redis is away: the caller holds an open connection.
        """
        waiter: asyncio.Future[FirstPage | None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(user, []).append(waiter)
        self.mark(user)
        return await waiter

    async def announce(self, user: str) -> None:
        """Write the user's index entry ahead of the connect, in the round trip that reads the categories.

        Only saves the flush that follows one round trip. Whoever announces and then does not connect
        calls `mark`. Raises `StoreError`.
        """
        if user in self._indexed or user in self._flushing or self.boot == 0:
            return
        token = object()
        self._announced[user] = token
        try:
            await self._store.index_add(self.boot, [user])
        finally:
            still = self._announced.get(user) is token
            if still:
                del self._announced[user]
        # A flush that began meanwhile may have taken the entry out again; then it is written anew.
        if still:
            self._indexed.add(user)

    def register_anew(self, boot: int, indexed: Iterable[str]) -> None:
        """A new boot: everyone in the Manager and everyone in `indexed` is dirty, before anything else."""
        self.boot = boot
        self._indexed.clear()
        self._announced.clear()
        self._dirty.update(dict.fromkeys(indexed))
        self._dirty.update(dict.fromkeys(self._manager.users()))
        self._schedule()

    @property
    def unflushed(self) -> int:
        """Users whose presence in Redis may differ from the Manager."""
        return len(self._dirty) + len(self._flushing) + len(self._resting)

    # -- flushing

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._due = False
        if self.boot == 0:
            return
        while self._flushes < MAX_FLUSHES:
            batch = self._take()
            if not batch:
                return
            self._flushes += 1
            self._tasks.spawn(self._flush_batch(batch), "presence flush")

    def _take(self) -> list[str]:
        batch = []
        for user in self._dirty:
            if user not in self._flushing:
                batch.append(user)
                if len(batch) == MAX_BATCH:
                    break
        for user in batch:
            del self._dirty[user]
        self._flushing.update(batch)
        return batch

    async def _flush_batch(self, batch: list[str]) -> None:
        failed = batch
        try:
            failed = await self._flush(batch)
        finally:
            self._flushes -= 1
            self._flushing.difference_update(batch)
            self._rest(failed)
            if self._dirty:
                self._schedule()

    def _rest(self, failed: list[str]) -> None:
        """Try these again a little later, all with one timer.

        `Commands` limits how often a Redis that is away is tried; this keeps one that answers and refuses
        from being asked in a tight loop.
        """
        if failed and not self._resting:
            delay = random.uniform(0.1, 0.3)  # noqa: S311 - jitter
            asyncio.get_running_loop().call_later(delay, self._rested)
        self._resting.update(failed)

    def _rested(self) -> None:
        self._dirty.update(dict.fromkeys(self._resting))
        self._resting.clear()
        self._schedule()

    async def _flush(self, batch: list[str]) -> list[str]:
        """Write what is true now; answers the users it failed for."""
        present = [user for user in batch if self._manager.has(user)]
        absent = [user for user in batch if not self._manager.has(user)]
        waiters = {user: self._waiters.pop(user, []) for user in batch}
        try:
            return await self._reconcile(present, absent, waiters)
        except StoreError:
            return batch
        finally:
            self._settle_waiters(waiters)

    async def _reconcile(self, present: list[str], absent: list[str], waiters: Waiters) -> list[str]:
        boot = self.boot
        unindexed = [user for user in present if user not in self._indexed]
        if unindexed:
            await self._store.index_add(boot, unindexed)
            if boot == self.boot:
                self._indexed.update(unindexed)
        failed = await self._write(boot, present, waiters)
        return failed + await self._remove(boot, absent)

    async def _write(self, boot: int, users: list[str], waiters: Waiters) -> list[str]:
        now = self._clock.now_ms()
        writes = [self._store.write(boot, user, now, self._page if waiters[user] else 0) for user in users]
        failed = []
        for user, answer in zip(users, await asyncio.gather(*writes, return_exceptions=True), strict=True):
            if isinstance(answer, BaseException):
                failed.append(user)
                _tell_unexpected(user, answer)
            else:
                self._written(answer, waiters[user])
        self._metrics.presence_writes.labels("written").inc(len(users) - len(failed))
        return failed

    def _written(self, page: FirstPage, waiting: list[asyncio.Future[FirstPage | None]]) -> None:
        if not page.written:
            self.on_taken_over()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(page)

    async def _remove(self, boot: int, users: list[str]) -> list[str]:
        if not users:
            return []
        removes = [self._store.remove(boot, user) for user in users]
        failed, gone = [], []
        for user, answer in zip(users, await asyncio.gather(*removes, return_exceptions=True), strict=True):
            if isinstance(answer, BaseException):
                failed.append(user)
                _tell_unexpected(user, answer)
            else:
                gone.append(user)
        self._metrics.presence_writes.labels("removed").inc(len(gone))
        if gone:
            failed += await self._remove_from_index(boot, gone)
        return failed

    async def _remove_from_index(self, boot: int, gone: list[str]) -> list[str]:
        # Out of our books before it is out of Redis: a connect in between writes the entry again.
        self._indexed.difference_update(gone)
        for user in gone:
            self._announced.pop(user, None)
        try:
            await self._store.index_remove(boot, gone)
        except StoreError:
            return gone
        return []

    def _settle_waiters(self, waiters: Waiters) -> None:
        """Waiters of a user who had gone are told so; those of a failed write wait for the next flush."""
        for user, waiting in waiters.items():
            left = [waiter for waiter in waiting if not waiter.done()]
            if left and self._manager.has(user):
                # The user is dirty: the write failed, or came after the flush had looked.
                self._waiters.setdefault(user, [])[:0] = left
                continue
            for waiter in left:
                waiter.set_result(None)


def _tell_unexpected(user: str, error: BaseException) -> None:
    """That Redis is away is told elsewhere; what stands in one user's keys must not hold the others up."""
    if not isinstance(error, StoreError):
        log.error("presence.broken", user=user, reason=repr(error))
