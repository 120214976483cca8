"""Recategorizing: live connections move when the back end changes the categories of their user.

A message that is published after a change was answered goes by the new categories. The change is in the feed
by then, and the message not yet in the log: so what was read from the log is given out only when the feed is
taken up to its end, and to who is being moved then after the move.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from pushserver.core.categories import Categories
from pushserver.delivery.manager import Manager
from pushserver.delivery.retry import until_stored
from pushserver.delivery.tasks import Tasks

__all__ = ["Recategorizing"]

log = structlog.get_logger(__name__)

WAIT_S = 0.5
"""How long what is for those only who are live waits for a user who is being moved."""


class Recategorizing:
    """Reads categories anew and moves the user's connections here."""

    def __init__(self, read: Callable[[str], Awaitable[Categories]], manager: Manager, tasks: Tasks) -> None:
        self._read = read
        self._manager = manager
        self._tasks = tasks
        self._changed: dict[str, bool] = {}
        """Users whose categories are being read -> whether they changed once more meanwhile."""
        self._moved = asyncio.Event()
        self._wait_until = 0.0
        """Second of the loop up to which it is waited for those who are being moved now."""

    @property
    def moving(self) -> list[str]:
        """Users whose categories have changed and are not known yet."""
        return list(self._changed)

    async def moved(self, user: str) -> None:
        """Return when the categories of this user are known, or nobody is here any more to have them."""
        while user in self._changed:
            await self._next_moved()

    async def all_moved(self) -> None:
        """Return when nobody is being moved, or half a second after the last change.

        Once: where a change takes longer, because its node is away, nothing else waits for it again.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._wait_until):
                while self._changed:
                    await self._next_moved()

    async def _next_moved(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def changed(self, user: str) -> None:
        """The user's categories are not what they were when they were read."""
        if user in self._changed:
            self._changed[user] = True
        elif self._manager.has(user):
            self._changed[user] = True
            self._wait_until = asyncio.get_running_loop().time() + WAIT_S
            self._tasks.spawn(self._move(user), "recategorize")

    async def _move(self, user: str) -> None:
        # One read at a time, so that the answer of an older one is never the last.
        try:
            while self._changed[user]:
                self._changed[user] = False
                found = await until_stored(lambda: self._read(user), lambda: self._manager.has(user))
                if found is None:
                    return
                for connection in self._manager.of(user):
                    self._manager.change_categories(connection, found)
        except ValueError as error:
            # Half of a user's categories would reach the wrong people: the former ones stay.
            log.error("categories.invalid", user=user, reason=str(error)[:200])
        finally:
            del self._changed[user]
            self._moved.set()
