"""Drain: a pod's orderly leaving, as far as its connections go."""

from __future__ import annotations

import asyncio

from pushserver.core.close_codes import CloseCode
from pushserver.delivery.manager import Manager

__all__ = ["Drain"]

STEP_S = 0.05


class Drain:
    """Sends every connection 1012, spread over `spread_s`, so that the clients come back spread, too."""

    def __init__(self, manager: Manager, *, spread_s: float) -> None:
        self._manager = manager
        self._spread_s = spread_s
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Close what is left at once (the second signal)."""
        self._hurry.set()

    async def run(self) -> None:
        """Close all connections and return when all of them are gone. The caller sets the deadline."""
        left = list(self._manager)
        steps = max(1, int(self._spread_s / STEP_S))
        size = max(1, -(-len(left) // steps))
        for at in range(0, len(left), size):
            for connection in left[at : at + size]:
                connection.close(CloseCode.SERVICE_RESTART, "the pod is leaving")
            await self._pause(STEP_S)
        while len(self._manager):  # noqa: ASYNC110 - the Manager is synchronous and tells nobody
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
        """The deadline came: end what is left without a goodbye; answers how many that were."""
        left = list(self._manager)
        for connection in left:
            connection.transport.abort()
        return len(left)
