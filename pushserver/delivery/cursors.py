"""Cursors: how far each user got in the log, written now and then and never back.

A cursor moves when everything before was confirmed by one connection of the user and its exposure accepted.
It is kept in memory meanwhile: what was confirmed in the last seconds of a pod that is killed comes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from pushserver.core.clock import StoreClock
from pushserver.delivery.connection import Connection
from pushserver.delivery.log_tail import LogTail
from pushserver.stores.cursor import CursorStore

__all__ = ["Cursors"]

EVERY_S = 5.0
"""Seconds between two writes of the cursor of a user who stays."""
PAUSE_S = 0.2
"""Before what failed is tried again."""
MAX_BATCH = 1000
"""Cursors written in one go."""


class _Moved(NamedTuple):
    position: int
    make: bool
    """Make the cursor anew if it is gone; not for what settles after the user has left."""


_NOWHERE = _Moved(0, make=False)


class Cursors:
    """Collects cursors to be written, the furthest of each user; of who leaves it is written at once."""

    def __init__(self, store: CursorStore, tail: LogTail, clock: StoreClock) -> None:
        self._store = store
        self._tail = tail
        self._clock = clock
        self._later: dict[str, _Moved] = {}
        self._due: dict[str, _Moved] = {}
        self._wake = asyncio.Event()
        self._written = asyncio.Event()

    async def start(self, user: str) -> int:
        """Where the user stands; who is new begins at what this pod has seen. Raises `StoreError`."""
        # Before as well: what is written meanwhile may be answered sooner than this.
        known = self._known(user)
        held = await self._store.start(user, self._tail.offered)
        return max(held, known, self._known(user))

    def _known(self, user: str) -> int:
        return max(where.get(user, _NOWHERE).position for where in (self._later, self._due))

    def settled(self, connection: Connection) -> None:
        """Something from the log was settled on this connection."""
        self._note(connection)
        if not connection.is_open():
            self._write_soon(connection.user)

    def left(self, connection: Connection) -> None:
        """The connection is about to be closed."""
        self._note(connection)
        self._write_soon(connection.user)

    def pass_by(self, user: str, position: int) -> None:
        """A client chokes on what stands at `position`: the user is not given it again."""
        _raise(self._later, user, _Moved(position, make=True))
        self._write_soon(user)

    def refresh(self, connection: Connection) -> None:
        """Of who got nothing for long: move the cursor on before the log is trimmed beyond it."""
        behind = connection.cursor_at < self._tail.offered
        if behind and connection.cursor_at < self._tail.old(self._clock.now_ms()):
            self._note(connection)

    def write_anew(self, connections: Iterable[Connection]) -> None:
        """Redis may have come back empty: write the cursors of all who are here."""
        for connection in connections:
            self._put(connection, connection.cursor(self._tail.offered))

    def _note(self, connection: Connection) -> None:
        position = connection.cursor(self._tail.offered)
        if position > connection.cursor_at:
            self._put(connection, position)

    def _put(self, connection: Connection, position: int) -> None:
        connection.cursor_at = position
        _raise(self._later, connection.user, _Moved(position, connection.is_open()))

    def _write_soon(self, user: str) -> None:
        moved = self._later.pop(user, None)
        if moved is not None:
            _raise(self._due, user, moved)
            self._wake.set()

    @property
    def waiting(self) -> int:
        """Cursors to be written: at most one for each user who was here lately."""
        return len(self._later) + len(self._due)

    async def drained(self) -> None:
        """Return when all are written."""
        while self.waiting:
            self._all_due()
            self._wake.set()
            self._written.clear()
            await self._written.wait()

    # -- writing

    async def run(self) -> None:
        """Write until cancelled."""
        loop = asyncio.get_running_loop()
        round_at = loop.time() + EVERY_S
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(round_at):
                    await self._wake.wait()
            self._wake.clear()
            goes_well = True
            while goes_well:
                # A round also comes when somebody is always leaving.
                if loop.time() >= round_at:
                    round_at = loop.time() + EVERY_S
                    self._all_due()
                goes_well = bool(self._due) and await self._write_some()
            if self._due:
                await asyncio.sleep(PAUSE_S)
                self._wake.set()
            self._written.set()

    def _all_due(self) -> None:
        if not self._due:
            # A broadcast leaves one for everybody: they are not moved one by one.
            self._due, self._later = self._later, self._due
        for user in list(self._later):
            self._write_soon(user)

    async def _write_some(self) -> bool:
        """Write some that are due; False if that did not succeed. They stay due until it did.

        Those that failed go behind the others: the node of some users may be away, and not all nodes.
        """
        batch = dict(islice(self._due.items(), MAX_BATCH))
        faults = await self._store.move((user, *moved) for user, moved in batch.items())
        for (user, moved), fault in zip(batch.items(), faults, strict=True):
            if fault is not None:
                self._due[user] = self._due.pop(user)
            elif self._due[user] == moved:
                del self._due[user]
        return not any(faults)


def _raise(where: dict[str, _Moved], user: str, moved: _Moved) -> None:
    held = where.get(user, moved)
    where[user] = _Moved(max(moved.position, held.position), moved.make or held.make)
