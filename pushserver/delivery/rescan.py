"""The rescan: what has no hint is found all the same, and what is stale is mended.

It looks at every user of this pod in turn. A sequence that moved on means messages nobody hinted at; a
presence field that differs from the Manager is reconciled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from pushserver.core.errors import StoreError
from pushserver.delivery.connection import Connection, State
from pushserver.delivery.manager import Manager
from pushserver.delivery.presence import Presence
from pushserver.stores.presence import PresenceStore, Seen

__all__ = ["Rescan"]

log = structlog.get_logger(__name__)

BATCH = 200


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
    ) -> None:
        self._store = store
        self._manager = manager
        self._presence = presence
        self._look_again = look_again
        self._every_s = every_s
        self._now = asyncio.Event()

    def now(self) -> None:
        """Look at everyone at once: hints may have been lost."""
        self._now.set()

    async def run(self) -> None:
        """Scan until cancelled."""
        while True:
            hurried = await self._rest(self._every_s if not self._manager.user_count else 0.0)
            users = self._manager.users()
            batches = [users[at : at + BATCH] for at in range(0, len(users), BATCH)]
            for batch in batches:
                if not hurried:
                    hurried = await self._rest(self._every_s / len(batches))
                await self._scan(batch)

    async def _rest(self, seconds: float) -> bool:
        """Pause; True if somebody asked to look now."""
        try:
            async with asyncio.timeout(seconds if self._every_s else None):
                await self._now.wait()
        except TimeoutError:
            return False
        self._now.clear()
        return True

    async def _scan(self, users: list[str]) -> None:
        answers = await asyncio.gather(*map(self._store.look, users), return_exceptions=True)
        for user, answer in zip(users, answers, strict=True):
            if isinstance(answer, Seen):
                self._compare(user, answer)
            elif not isinstance(answer, StoreError):
                raise answer

    def _compare(self, user: str, seen: Seen) -> None:
        if seen.boot != self._presence.boot:
            self._presence.mark(user)
        for connection in self._manager.of(user):
            if connection.state is State.LIVE and connection.upto != seen.seq:
                self._look_again(connection)
