"""Messages as tests write them: content as Python has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pushserver.core.jsontext import dump
from pushserver.core.message import message_parts
from pushserver.core.publication import Publication
from pushserver.stores.content import ContentStore

__all__ = ["message_text", "store_text", "to_users"]


def message_text(message_id: str, time_ms: int, content: Any) -> str:
    """The text of a message frame as `msg:ID` stores it."""
    head, tail = message_parts(message_id, dump(content))
    return f"{head}{time_ms}{tail}"


def to_users(users: Sequence[str], content: Any, message_id: str, ttl_s: int = 3600) -> Publication:
    """A message to these users."""
    return Publication(message_id, dump(content), ttl_s, tuple(users))


async def store_text(contents: ContentStore, message_id: str, text: str, ttl_s: int) -> None:
    """Write `msg:ID` as any program may."""
    await contents._commands.call("SET", contents._keys.content(message_id), text, "EX", ttl_s)
