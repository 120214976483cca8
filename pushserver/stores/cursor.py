"""Cursors: where each user stands in the log."""

from __future__ import annotations

from collections.abc import Iterable

from pushserver.core.errors import StoreError
from pushserver.stores.commands import Argument, Commands
from pushserver.stores.keys import CURSOR_TTL_S, Keys
from pushserver.stores.stream import position_of, stream_id

__all__ = ["CursorStore"]


class CursorStore:
    """Reads and moves cursors; one script for each in the user's slot, idempotent."""

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

    async def move(self, moves: Iterable[tuple[str, int, bool]]) -> list[StoreError | None]:
        """User, position and whether to make one that is gone anew: forward to the position, never back.

        Answers what became of each, in their order: None if the cursor is there now or is gone.
        """
        key = self._keys.cursor
        calls = (
            ((key(user),), (stream_id(position), CURSOR_TTL_S, int(make))) for user, position, make in moves
        )
        answers = await self._commands.scripts("cursor_move", calls)
        return [answer if isinstance(answer, StoreError) else None for answer in answers]
