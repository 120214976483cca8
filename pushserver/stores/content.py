"""Contents: what a message says, stored once under `msg:ID`, whoever it is for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator, Iterable
from dataclasses import dataclass
from typing import Any

from pushserver.core.errors import IdReusedError, RecalledError
from pushserver.core.message import message_parts
from pushserver.core.publication import Publication
from pushserver.stores.commands import Argument, Commands
from pushserver.stores.keys import Keys

__all__ = ["ContentStore", "PublishRecord", "Recording", "StoredContent"]


@dataclass(frozen=True, slots=True)
class StoredContent:
    """The text of a message frame; `expires_at` in ms since 1970, None if it never goes away."""

    text: bytes
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class PublishRecord:
    """What is on record of a publish."""

    new: bool
    """This call made it; else an earlier one did."""
    sent: bool
    """A message for the live was handed to the pods already."""
    queued_at: int
    """Milliseconds since 1970 by Redis' clock: the `time` of the message."""
    accepted: bool = False
    """An earlier call was completed: everybody named had it then."""


class Recording(Awaitable[PublishRecord]):
    """A publish on its way. No coroutine, for one that nobody awaits in the end is complained about."""

    __slots__ = ("_answer", "_message_id")

    def __init__(self, message_id: str, answer: Awaitable[Any]) -> None:
        self._message_id = message_id
        self._answer = asyncio.ensure_future(answer)

    @property
    def failed(self) -> bool:
        """Whether it is known by now that it failed."""
        return self._answer.done() and (self._answer.cancelled() or self._answer.exception() is not None)

    def __await__(self) -> Generator[Any, None, PublishRecord]:
        status, queued_at, accepted = yield from self._answer.__await__()
        if status == _REUSED:
            raise IdReusedError(self._message_id)
        if status == _RECALLED:
            raise RecalledError(self._message_id)
        return PublishRecord(status == _NEW, status == _SENT, queued_at, accepted == 1)


class ContentStore:
    """Reads and writes contents, and the records of their publishes."""

    def __init__(self, commands: Commands, keys: Keys, *, record_s: int = 0) -> None:
        self._commands = commands
        self._keys = keys
        self._record_s = record_s

    async def read(self, message_id: str) -> StoredContent | None:
        """The content, or None when it is gone (which is Redis' word, never an error or a time-out).

        Raises `RecalledError` if it was recalled.
        """
        keys = [self._keys.content(message_id), self._keys.publish(message_id)]
        text, expiry, recalled = await self._commands.script("content_read", keys, [])
        if recalled:
            raise RecalledError(message_id)
        if text is None:
            return None
        return StoredContent(text, expiry if expiry >= 0 else None)

    @property
    def comes_first(self) -> bool:
        """Whether an append that is asked for behind `publish` may be, without waiting for its answer.

        Not in a cluster, where it may be carried out before; nor where only a seal says that a publish
        counts: the user would have what its publisher is told to repeat.
        """
        return self._commands.in_one_order and not self._commands.sealed

    def publish(self, publication: Publication, record_ttl_s: int) -> Recording:
        """Write content (unless it is live only) and publish record, once for each id.

        On its way before it is awaited. The record counts for `record_ttl_s` at least, and as long as the
        content; then it is kept for `record_s`, to explain what became of the message. Raises `IdReusedError`
        or `RecalledError`.
        """
        message_id, ttl_s = publication.id, publication.ttl_s
        head, tail = message_parts(message_id, publication.content)
        stored = [head, tail] if publication.offline else ["", ""]
        keys = [self._keys.content(message_id), self._keys.publish(message_id)]
        arguments: list[Argument] = [
            publication.digest,
            ttl_s if publication.offline else 0,
            max(record_ttl_s, ttl_s if publication.offline else 0),
            *stored,
            publication.kind,
            len(publication.users),
            self._record_s,
        ]
        return Recording(message_id, self._commands.publish("message_publish", keys, arguments))

    def accepted(self, message_id: str, now_ms: int) -> Awaitable[Any]:
        """Everybody that the message names has it now. Twice is once. On its way before it is awaited."""
        return self._commands.script("message_accepted", [self._keys.publish(message_id)], [now_ms])

    async def erased(self, message_ids: Iterable[str]) -> None:
        """A user for whom these were not settled was erased; each call counts one."""
        keys = (self._keys.publish(message_id) for message_id in message_ids)
        await asyncio.gather(*(self._commands.script("message_erased", [key], []) for key in keys))

    async def sent(self, message_id: str) -> None:
        """A message for the live was handed to every pod: a repeat of it is sent no more."""
        await self._commands.script("message_sent", [self._keys.publish(message_id)], [])

    async def recall(self, message_id: str, record_ttl_s: int) -> bool:
        """Take the content away and refuse further publishes of the id; False if there is no such message."""
        keys = [self._keys.content(message_id), self._keys.publish(message_id)]
        return bool(await self._commands.publish("message_recall", keys, [record_ttl_s]) == 1)


_NEW, _SENT, _REUSED, _RECALLED = 1, 3, 0, -1
