"""Reminders: the pings that were planned for what can wait go out in time, if nothing took them along before.

Most of them are taken along, so a plan costs no more than a place in a list: nothing is ever taken out again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from pushserver.delivery.connection import Connection
from pushserver.delivery.slices import SLICE
from pushserver.delivery.wheel import TICK_S

__all__ = ["Reminders"]

log = structlog.get_logger(__name__)

AHEAD_S = 10.0
"""No reminder lies further ahead, for it keeps the connection in memory, also one that was closed."""
AGAIN_S = 5.0
"""When one that failed is repeated."""


class Reminders:
    """Calls `remind(connection, now)` when it is due or before, but at most a tick of 0.25 s after it.

    One at a time for each connection, the earliest that was asked for: who is reminded too early asks anew.
    """

    __slots__ = ("_due", "_handle", "_remind")

    def __init__(self, remind: Callable[[Connection, float], None]) -> None:
        self._remind = remind
        self._due: dict[int, list[Connection]] = {}
        self._handle: asyncio.Handle | None = None

    def start(self) -> None:
        """Begin to look, on the running loop."""
        self._look_later()

    def stop(self) -> None:
        """Look no more; who is due stays so."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def put(self, connection: Connection, due: float) -> None:
        """Remind of it at `due` (monotonic seconds), in ten seconds, or when an earlier reminder comes."""
        due = min(due, asyncio.get_running_loop().time() + AHEAD_S)
        if 0.0 < connection.reminded_at <= due:
            return
        connection.reminded_at = due
        self._due.setdefault(int(due / TICK_S) + 1, []).append(connection)

    def __len__(self) -> int:
        return sum(map(len, self._due.values()))

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._handle = loop.call_at((int(loop.time() / TICK_S) + 1) * TICK_S, self._turn)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now, left = loop.time(), SLICE
        for tick in sorted(tick for tick in self._due if tick <= now / TICK_S):
            slot = self._due[tick]
            some, slot[:left] = slot[:left], []
            left -= len(some)
            for connection in some:
                self._look(connection, now)
            if slot:
                # Too many for one callback: others first, then the rest.
                self._handle = loop.call_soon(self._turn)
                return
            del self._due[tick]
        self._look_later()

    def _look(self, connection: Connection, now: float) -> None:
        if not 0.0 < connection.reminded_at <= now:
            # An earlier one has come; another may have been asked for since.
            return
        connection.reminded_at = 0.0
        try:
            self._remind(connection, now)
        except Exception:
            # One connection's trouble must not keep the others' pings back, nor its own for good.
            log.exception("reminders.failed", connection=connection.id)
            self.put(connection, now + AGAIN_S)
