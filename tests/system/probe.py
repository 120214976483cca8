"""A probe: one message to a user who connects in the same moment, over and over.

Whichever of the two is earlier, and in whatever step the one meets the other, the user gets the message
while connected: nobody else will tell, for the rescan is off.
"""

from __future__ import annotations

import asyncio
import time

from tests.system.backend import Backend
from tests.system.crowd import Crowd
from tests.system.device import Device

__all__ = ["Probe"]

APART_S = 0.15
"""How far a connect and a publish are apart at most."""
LINGERS_S = 0.3
"""How long the user stays after the message at most: a late hint must not bring it again."""


class Probe:
    """One user, who has no other device. `prompt_s` bounds the wait for a message that was answered."""

    def __init__(self, user: str, crowd: Crowd, backend: Backend, *, prompt_s: float) -> None:
        self.user = user
        self.slowest_s = 0.0
        """The longest that a message took from its answer."""
        self._crowd = crowd
        self._backend = backend
        self._prompt_s = prompt_s
        self._device: Device | None = None

    async def run(self) -> None:
        """One round after the other until everybody comes together; then the user comes, too."""
        while not self._crowd.together.is_set():
            await self._round()
            self._crowd.history.counts["probes"] += 1
        await self._crowd.join(self.user)

    async def _round(self) -> None:
        publication = self._backend.to_users([self.user])
        before = len(self._crowd.history.lines)  # earlier lines cannot have it
        async with asyncio.TaskGroup() as group:
            group.create_task(self._come())
            await asyncio.sleep(self._crowd.chance.random() * APART_S)
            await self._backend.until_answered(publication)
        await self._arrived(publication.id, before)
        await asyncio.sleep(self._crowd.chance.random() * LINGERS_S)
        self._go()

    async def _come(self) -> None:
        await asyncio.sleep(self._crowd.chance.random() * APART_S)
        self._device = None
        while self._device is None:
            self._device = await self._crowd.connect(self.user)
            await asyncio.sleep(0 if self._device else 0.05)

    async def _arrived(self, message_id: str, before: int) -> None:
        """Wait for it, on this connection or, where that is cut, on the next."""
        answered = time.monotonic()
        while not self._has(message_id, before):
            waited = time.monotonic() - answered
            assert waited < self._prompt_s, f"{self.user} is connected and was not told of {message_id}"
            if self._device is None or self._device.over.is_set():
                await self._come()
            await asyncio.sleep(0.01)
        self.slowest_s = max(self.slowest_s, time.monotonic() - answered)

    def _has(self, message_id: str, before: int) -> bool:
        lines = self._crowd.history.lines[before:]
        return any(message_id in line.ids for line in lines if line.user == self.user)

    def _go(self) -> None:
        assert self._device is not None
        (self._device.leave if self._crowd.chance.random() < 0.5 else self._device.vanish)()
