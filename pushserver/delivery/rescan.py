"""The rescan: what has no hint is found all the same, and what is stale is mended.

It looks at every user of this pod in turn. A sequence that moved on means messages nobody hinted at; a
presence field that differs from the Manager is reconciled; categories of another version are read anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

import structlog

from pushserver.core.errors import StoreError
from pushserver.delivery.connection import Connection, State
from pushserver.delivery.manager import Manager
from pushserver.delivery.presence import Presence
from pushserver.stores.category_store import StoredCategories
from pushserver.stores.presence import PresenceStore

__all__ = ["Rescan"]

log = structlog.get_logger(__name__)

BATCH = 200
AGAIN_S = 0.5
"""Before those are looked at again whose look found no answer."""
MEND_S = 5.0
"""How long a round waits for presence to be written; who takes longer is looked at again."""


class Rescan:
    """Looks at all users within `every_s` seconds, in even batches; `every_s` of 0 only when asked."""

    def __init__(
        self,
        store: PresenceStore,
        manager: Manager,
        presence: Presence,
        look_again: Callable[[Connection], None],
        *,
        every_s: float,
        on_stale_categories: Callable[[str], None] = lambda user: None,
    ) -> None:
        self._store = store
        self._manager = manager
        self._presence = presence
        self._look_again = look_again
        self._on_stale_categories = on_stale_categories
        # Who connects right after a round began is looked at in the next: two rounds make the promise.
        self._every_s = every_s / 2
        self._now = asyncio.Event()
        self._unseen: set[str] = set()
        """Users who are to be looked at whatever their sequence says: their look or mending had no answer."""

    def now(self) -> None:
        """Look at every inbox at once, whatever its sequence: hints may have been lost, or Redis emptied."""
        self._now.set()

    async def run(self) -> None:
        """Scan until cancelled."""
        hurried = False
        while True:
            hurried = await self._round(hurried=hurried)

    async def _round(self, *, hurried: bool) -> bool:
        """Look at everyone once; True if asked meanwhile to look at everyone at once."""
        users = self._manager.users()
        if not users and not hurried:
            return await self._rest(self._every_s)
        batches = [users[at : at + BATCH] for at in range(0, len(users), BATCH)]
        for batch in batches:
            if not hurried and await self._rest(self._every_s / len(batches)):
                # From the beginning: whom this round has looked at already is meant, too.
                return True
            await self._scan(batch, look_anyway=hurried)
        return False

    async def _rest(self, seconds: float) -> bool:
        """Pause; True if somebody asked to look now."""
        now = asyncio.get_running_loop().time
        until = now() + seconds if self._every_s else float("inf")
        while now() < until:
            wait_s = min(until - now(), AGAIN_S if self._unseen else until)
            try:
                async with asyncio.timeout(None if wait_s == float("inf") else wait_s):
                    await self._now.wait()
            except TimeoutError:
                await self._look_at_unseen()
            else:
                self._now.clear()
                return True
        return False

    async def _look_at_unseen(self) -> None:
        batch = [user for user in islice(self._unseen, BATCH) if self._manager.has(user)]
        self._unseen = set(islice(self._unseen, BATCH, None))
        await self._scan(batch, look_anyway=True)

    async def _scan(self, users: list[str], *, look_anyway: bool) -> None:
        stale = []
        answers = await self._store.look(users)
        for user, seen in zip(users, answers, strict=True):
            if isinstance(seen, StoreError):
                if look_anyway:
                    self._unseen.add(user)
                continue
            if isinstance(seen, Exception):
                # Written anew, and the inbox is looked at all the same.
                log.error("rescan.broken", user=user, reason=repr(seen))
                stale.append(user)
                continue
            if seen.boot != self._presence.boot:
                stale.append(user)
            else:
                self._compare(user, None if look_anyway else seen.seq)
            self._compare_categories(user, seen.categories_version)
        await asyncio.gather(*map(self._mend, stale))

    async def _mend(self, user: str) -> None:
        """Write presence, then look at the inbox: whoever published before that write hinted at nobody."""
        try:
            async with asyncio.timeout(MEND_S):
                await self._presence.flushed(user)
        except TimeoutError:
            # There may be no next round.
            self._unseen.add(user)
            return
        self._compare(user, None)

    def _compare(self, user: str, seq: int | None) -> None:
        """Look at the inbox unless `seq` says that all of it was seen."""
        for connection in self._manager.of(user):
            if connection.state is not State.LIVE or connection.upto != seq:
                self._look_again(connection)

    def _compare_categories(self, user: str, version: int) -> None:
        """A pod that was cut off, or lost something of its feed, was not told of a change."""
        for connection in self._manager.of(user):
            held = connection.categories
            if isinstance(held, StoredCategories) and held.version != version:
                self._on_stale_categories(user)
                return
