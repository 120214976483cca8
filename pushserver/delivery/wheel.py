"""One wheel drives what is due for every connection: pings, their time-outs, expiries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

import structlog

from pushserver.delivery.connection import Connection

__all__ = ["Wheel"]

log = structlog.get_logger(__name__)

TICK_S = 0.25
SLICE = 500
"""Connections looked at in one callback of the loop."""
AGAIN_S = 5.0
"""When a visit that failed is repeated."""


class Wheel:
    """Calls `visit(connection, now)` when it is due; the answer is the monotonic second of the next visit.

    A tick is 0.25 s, so a visit is never early and up to that late. No timer for each connection.
    """

    __slots__ = ("_at", "_due", "_handle", "_visit")

    def __init__(self, visit: Callable[[Connection, float], float | None]) -> None:
        self._visit = visit
        self._due: dict[int, dict[Connection, None]] = {}
        self._at = 0
        self._handle: asyncio.Handle | None = None

    def start(self) -> None:
        """Begin to turn, on the running loop."""
        loop = asyncio.get_running_loop()
        self._at = int(loop.time() / TICK_S)
        self._handle = loop.call_at((self._at + 1) * TICK_S, self._turn)

    def stop(self) -> None:
        """Turn no more; what is due stays undone."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def put(self, connection: Connection, due: float) -> None:
        """Visit at `due` (monotonic seconds); an earlier put of the same connection is forgotten."""
        self.remove(connection)
        tick = max(self._at + 1, int(due / TICK_S) + 1)
        connection.due_tick = tick
        self._due.setdefault(tick, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Visit no more."""
        slot = self._due.get(connection.due_tick)
        if slot is not None:
            slot.pop(connection, None)
            if not slot:
                del self._due[connection.due_tick]

    def __len__(self) -> int:
        return sum(map(len, self._due.values()))

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        last = int(now / TICK_S)
        left = SLICE
        while self._at <= last:
            slot = self._due.get(self._at, {})
            # Not one by one from the front: a dict steps over all that was taken from there, each time.
            some = list(islice(slot, left))
            for connection in some:
                # A visit may take others off the wheel.
                if connection in slot:
                    self._look(connection, now)
            left -= len(some)
            if slot:
                # Too many for one callback: others first, then the rest.
                self._handle = loop.call_soon(self._turn)
                return
            self._at += 1
        self._handle = loop.call_at((last + 1) * TICK_S, self._turn)

    def _look(self, connection: Connection, now: float) -> None:
        self.remove(connection)
        try:
            due = self._visit(connection, now)
        except Exception:
            # One connection's trouble must not stop the pings of all others, nor put an end to its own:
            # a connection that nobody looks at never expires.
            log.exception("wheel.visit_failed", connection=connection.id)
            due = now + AGAIN_S
        if due is not None:
            self.put(connection, due)
