"""Cursors: where each user stands in the log."""

from __future__ import annotations

from pushserver.stores.commands import Argument, Commands
from pushserver.stores.keys import CURSOR_TTL_S, Keys
from pushserver.stores.stream import position_of, stream_id

__all__ = ["CursorStore"]


class CursorStore:
    """Reads and moves cursors; each call one script in the user's slot, idempotent."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    async def start(self, user: str, position: int) -> int:
        """Where the user stands; who has no cursor begins at `position`."""
        arguments: list[Argument] = [stream_id(position), CURSOR_TTL_S]
        return position_of(await self._commands.script("cursor_start", [self._keys.cursor(user)], arguments))

    async def read(self, user: str) -> int | None:
        """Where the user stands; None if there is no cursor, or none that is one."""
        held = await self._commands.script("cursor_look", [self._keys.cursor(user)], [])
        return None if held is None else position_of(held)

    async def move(self, user: str, position: int, *, make: bool) -> None:
        """Forward to `position`, never back; one that is gone is made anew only with `make`."""
        arguments: list[Argument] = [stream_id(position), CURSOR_TTL_S, int(make)]
        await self._commands.script("cursor_move", [self._keys.cursor(user)], arguments)
