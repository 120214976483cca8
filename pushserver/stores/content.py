"""Contents: what a message says, stored once under `msg:ID`, whoever it is for."""

from __future__ import annotations

from dataclasses import dataclass

from pushserver.stores.commands import Commands
from pushserver.stores.keys import Keys

__all__ = ["ContentStore", "StoredContent"]


@dataclass(frozen=True, slots=True)
class StoredContent:
    """The text of a message frame; `expires_at` in ms since 1970, None if it never goes away."""

    text: bytes
    expires_at: int | None


class ContentStore:
    """Reads and writes contents."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    async def read(self, message_id: str) -> StoredContent | None:
        """The content, or None when it is gone (which is Redis' word, never an error or a time-out)."""
        text, expiry = await self._commands.script("content_read", [self._keys.content(message_id)], [])
        if text is None:
            return None
        return StoredContent(text, expiry if expiry >= 0 else None)

    async def write(self, message_id: str, text: str, ttl_s: int) -> bool:
        """Store a content unless the id has one; False when it had."""
        answer = await self._commands.call("SET", self._keys.content(message_id), text, "EX", ttl_s, "NX")
        return answer is not None
