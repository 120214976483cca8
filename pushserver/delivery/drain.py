"""Drain: a pod's orderly leaving, as far as its connections go."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from pushserver.core.close_codes import CloseCode
from pushserver.delivery.connection import Connection
from pushserver.delivery.manager import Manager

__all__ = ["Drain"]

STEP_S = 0.05
MAX_STEP = 500
"""Connections closed in one callback of the loop."""


class Drain:
    """Sends every connection 1012, spread over `spread_s`, so that the clients come back spread, too.

    `leaving` are those that were said goodbye to before, for another reason.
    """

    def __init__(self, manager: Manager, leaving: Collection[Connection], *, spread_s: float) -> None:
        self._manager = manager
        self._leaving = leaving
        self._spread_s = spread_s
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Close what is left at once (the second signal)."""
        self._hurry.set()

    async def run(self) -> None:
        """Close all connections and return when all of them are gone. The caller sets the deadline."""
        left = list(self._manager)
        steps = max(1, int(self._spread_s / STEP_S))
        size = max(1, min(MAX_STEP, -(-len(left) // steps)))
        for at in range(0, len(left), size):
            _say_goodbye(left[at : at + size])
            await self._pause(STEP_S if self._spread_s else 0.0)
        while self._manager or self._leaving:
            # A handshake that was let in before the drain began opens late.
            _say_goodbye(self._manager)
            await asyncio.sleep(STEP_S)

    async def _pause(self, seconds: float) -> None:
        if self._hurry.is_set():
            # Others first: their goodbyes have to go out.
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._hurry.wait()
        except TimeoutError:
            pass

    def cut(self) -> int:
        """The deadline came: end what is left, without waiting for an answer; how many that were.

        Whoever takes the goodbye at once hears it all the same, if the spread was longer than the drain.
        """
        left = [*self._manager, *self._leaving]
        _say_goodbye(left)
        for connection in left:
            connection.transport.abort()
        return len(left)


def _say_goodbye(connections: Iterable[Connection]) -> None:
    for connection in connections:
        connection.close(CloseCode.SERVICE_RESTART, "the pod is leaving")
