"""Presence is reconciled, not commanded.

The Manager is the truth about this pod. A change marks the user dirty; a flush writes what is true when
it looks at the Manager. Connect and disconnect races, flapping and outages of Redis need no other code.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType

import structlog

from pushserver.core.clock import StoreClock
from pushserver.core.errors import StoreError
from pushserver.core.metrics import Metrics
from pushserver.delivery.manager import Manager
from pushserver.delivery.tasks import Tasks, together
from pushserver.stores.presence import FirstPage, PresenceStore

__all__ = ["Presence"]

log = structlog.get_logger(__name__)

LATE_S = 60.0
"""How long a closed socket may still deliver what was written to it."""
MAX_BATCH = 1000
"""Users whose flushes begin in one callback of the loop."""

Waiters = list[asyncio.Future[FirstPage | None]]


class _Flush:
    """`with` it, one user's flush is over at the end, however it ends; errors but a cancellation stay inside.

    A class, for a generator in its place costs a connect three times as much.
    """

    __slots__ = ("_over", "_user", "_waiting")

    def __init__(self, over: Callable[..., None], user: str, waiting: Waiters) -> None:
        self._over = over
        self._user = user
        self._waiting = waiting

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._over(self._user, self._waiting, done=error is None)
        if not isinstance(error, Exception):
            return False
        if not isinstance(error, StoreError):
            # What stands in one user's keys must not hold the others up.
            log.error("presence.broken", user=self._user, reason=repr(error))
        return True


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
        self._due = False
        self._waiters: dict[str, Waiters] = {}
        self._indexed: set[str] = set()
        self._announced: dict[str, object] = {}
        self._late: dict[str, float] = {}
        """Users of whom a write got no answer, until when it may still land (monotonic seconds)."""
        self.leaving = False
        """The lease is about to be released: nothing more is announced."""
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
        # Mostly the index entry was written by `announce`, and the flush needs no task of its own.
        tried = self._may_flush_now(user)
        if tried:
            page = await self._flush_one(user)
            if page is not None:
                return page
        waiter: asyncio.Future[FirstPage | None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(user, []).append(waiter)
        if not tried:
            self.mark(user)
        # Else it failed, and rests like any flush that did.
        return await waiter

    def _may_flush_now(self, user: str) -> bool:
        return (
            self.boot > 0 and user in self._indexed and user not in self._flushing and self._manager.has(user)
        )

    async def announce(self, user: str) -> None:
        """Write the user's index entry ahead of the connect, in the round trip that reads the categories.

        Only saves the flush that follows one round trip. Whoever announces and then does not connect
        calls `mark`. Raises `StoreError`.
        """
        if self.leaving or user in self._indexed or user in self._flushing or self.boot == 0:
            return
        token = object()
        self._announced[user] = token
        # The answer is looked for also when nobody waits for it any more.
        answer = asyncio.ensure_future(self._store.index_add(self.boot, [user]))
        waiter = asyncio.shield(answer)
        try:
            await waiter
        except StoreError:
            self._may_land_late([user])
            raise
        except BaseException:
            # Or an error of the answer would be told to the loop.
            waiter.cancel()
            answer.add_done_callback(partial(self._added_for_nobody, user))
            raise
        finally:
            still = self._announced.get(user) is token
            if still:
                del self._announced[user]
        # A flush that began meanwhile may have taken the entry out again; then it is written anew.
        if still:
            self._indexed.add(user)

    def _added_for_nobody(self, user: str, answer: asyncio.Future[None]) -> None:
        """It was given up: the entry may have been written behind its removal, or may still be."""
        if answer.cancelled() or answer.exception() is not None:
            self._may_land_late([user])
        if not self._manager.has(user):
            self.mark(user)

    def _may_land_late(self, users: Iterable[str]) -> None:
        until = time.monotonic() + LATE_S
        self._late.update(dict.fromkeys(users, until))

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
        return len(self._dirty) + len(self._flushing) + len(self._resting) + len(self._announced)

    # -- flushing

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        self._due = False
        # How many may be under way at once is bounded by the users there are: each is in one flush.
        while self.boot and (batch := self._take()):
            self._tasks.spawn(self._flush(batch), "presence flush")

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

    async def _flush(self, batch: list[str]) -> None:
        """Write what is true now, of each user for himself: nobody waits for the slot of another."""
        boot = self.boot
        waiters = {user: self._waiters.pop(user, []) for user in batch}
        present = {user: waiters[user] for user in batch if self._manager.has(user)}
        absent = [user for user in batch if user not in present]
        removals = [self._remove(boot, user, waiters[user]) for user in absent]
        await together([self._write_all(boot, present), *removals] if present else removals)

    async def _flush_one(self, user: str) -> FirstPage | None:
        """Flush a user who is here and indexed, now; None if it came to nothing and is to be tried again."""
        self._dirty.pop(user, None)
        self._flushing.add(user)
        return await self._write(self.boot, user, self._waiters.pop(user, []), with_page=True)

    async def _write_all(self, boot: int, users: dict[str, Waiters]) -> None:
        unindexed = [user for user in users if user not in self._indexed]
        try:
            if unindexed:
                await self._store.index_add(boot, unindexed)
        except StoreError:
            self._may_land_late(unindexed)
            for user, waiting in users.items():
                self._over(user, waiting, done=False)
            return
        if boot == self.boot:
            self._indexed.update(unindexed)
        await together([self._write(boot, user, waiting) for user, waiting in users.items()])

    async def _write(
        self, boot: int, user: str, waiting: Waiters, *, with_page: bool = False
    ) -> FirstPage | None:
        page = None
        with _Flush(self._over, user, waiting):
            # Who waits for the flush wants the inbox as well, as it stands right after the write.
            count = self._page if waiting or with_page else 0
            try:
                page = await self._store.write(boot, user, self._clock.now_ms(), count)
            except StoreError:
                self._may_land_late([user])
                raise
            self._metrics.presence_written.inc()
            if not page.written:
                self.on_taken_over()
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(page)
        return page

    async def _remove(self, boot: int, user: str, waiting: Waiters) -> None:
        with _Flush(self._over, user, waiting):
            await self._store.remove(boot, user)
            self._metrics.presence_writes.labels("removed").inc()
            if self._late.pop(user, 0.0) > time.monotonic():
                # A write without an answer may land behind this removal: the entry that points to the field
                # stays until both are removed once more.
                asyncio.get_running_loop().call_later(LATE_S, self.mark, user)
                return
            # Out of our books before it is out of Redis: a connect in between writes the entry again.
            self._indexed.discard(user)
            self._announced.pop(user, None)
            await self._store.index_remove(boot, [user])

    def _over(self, user: str, waiting: Waiters, *, done: bool) -> None:
        """The flush of this user has ended. Waiters of who had gone are told so, others wait for the next."""
        self._flushing.discard(user)
        left = [waiter for waiter in waiting if not waiter.done()]
        if left and self._manager.has(user):
            self._waiters.setdefault(user, [])[:0] = left
        else:
            for waiter in left:
                waiter.set_result(None)
        if not done:
            self._rest(user)
        elif user in self._dirty:
            self._schedule()

    def _rest(self, user: str) -> None:
        """Try this one again a little later, together with others that failed.

        `Commands` limits how often a Redis that is away is tried; this keeps one that answers and refuses
        from being asked in a tight loop.
        """
        if not self._resting:
            delay = random.uniform(0.1, 0.3)  # noqa: S311 - jitter
            asyncio.get_running_loop().call_later(delay, self._rested)
        self._resting.add(user)

    def _rested(self) -> None:
        self._dirty.update(dict.fromkeys(self._resting))
        self._resting.clear()
        self._schedule()
