"""Replies: what pods answer to a question that came with their feeds."""

from __future__ import annotations

import re

from pushserver.stores.commands import Commands
from pushserver.stores.keys import REPLY_TTL_S, Keys, pod_name

__all__ = ["Replies", "check_token"]

_TOKEN = re.compile(r"[A-Za-z0-9_-]{8,32}").fullmatch


class Replies:
    """Puts replies and reads them; all raise `StoreError`. They go away by themselves."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    async def put(self, token: str, pod: str, text: str) -> None:
        """A pod's reply to the question of that token. Twice is once."""
        await self._commands.script("reply_put", [self._keys.reply(token)], [pod, text, REPLY_TTL_S])

    async def read(self, token: str) -> dict[str, bytes]:
        """The replies so far, by pod."""
        flat = await self._commands.call("HGETALL", self._keys.reply(token))
        named = ((pod_name(pod), text) for pod, text in zip(flat[::2], flat[1::2], strict=True))
        return {pod: text for pod, text in named if pod is not None}


def check_token(value: object) -> str:
    """Return `value` if it may be a question's token; raises `ValueError`."""
    if not isinstance(value, str) or not _TOKEN(value):
        raise ValueError("no token")
    return value
