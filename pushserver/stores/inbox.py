"""The inbox: a user's Redis list of message ids not yet settled, the write-ahead record of delivery.

An entry is written first and removed last: after the confirm, and after its exposure was accepted.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any

from pushserver.core.errors import StoreError
from pushserver.stores.commands import Argument, Commands
from pushserver.stores.keys import (
    BLAME_TTL_S,
    GONE_MAX,
    GONE_TTL_S,
    MISSED_TTL_S,
    PARKED_TTL_S,
    SEEN_MAX,
    Keys,
)
from pushserver.stores.presence_field import presence_of

__all__ = ["Appended", "Inbox", "Missed", "Page"]

_MESSAGE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}").fullmatch


@dataclass(frozen=True, slots=True)
class Missed:
    """Messages that left the inbox otherwise than by reaching the user, since the user was last told."""

    expired: int = 0
    evicted: int = 0
    parked: int = 0

    def __bool__(self) -> bool:
        return bool(self.expired or self.evicted or self.parked)


@dataclass(frozen=True, slots=True)
class Page:
    """The first ids of an inbox, oldest first, with its sequence and what was missed at that moment."""

    seq: int
    ids: list[str]
    missed: Missed
    size: int
    """Entries read, those that are no message id included."""
    garbage: list[bytes]
    """Entries that are no message id: somebody else wrote them, and nothing can be behind them."""

    @classmethod
    def of(cls, answer: Sequence[Any]) -> Page:
        """From a script's `{seq, ids, expired, evicted, parked}`."""
        seq, entries, *missed = answer
        ids = [entry.decode("ascii") for entry in entries if _MESSAGE_ID(entry)]
        garbage = [entry for entry in entries if not _MESSAGE_ID(entry)] if len(ids) < len(entries) else []
        return cls(seq, ids, Missed(*missed), len(entries), garbage)


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append did, and which pods the user was on right after it."""

    new: bool
    waiting: bool
    """It is in the inbox now: appended by this call or by an earlier one."""
    seq: int
    evicted: int
    pods: dict[str, int]
    """Where the user is: pod -> boot in its presence field (0 if unreadable)."""


class Inbox:
    """Inboxes of all users. Each method is one script in the user's slot.

    All are idempotent but `told` and `blame`, which count: when an answer is lost, a repeat of `told` may
    take off what was missed meanwhile, and a repeat of `blame` counts one close as two.
    """

    def __init__(
        self, commands: Commands, keys: Keys, *, cap: int, ttl_s: int, idempotency_s: int, record_s: int = 0
    ) -> None:
        self._commands = commands
        self._keys = keys
        self._cap = cap
        self._ttl_s = ttl_s
        self._idempotency_s = idempotency_s
        self._record_s = record_s

    async def append(self, user: str, message_id: str, content_ttl_s: int) -> Appended:
        """Append an id unless it is there or was there; evict the oldest beyond the cap.

        The inbox lives at least as long as the content, and as its record: so it says that a message waited
        until it expired. Presence is read after the append, atomically.
        """
        return _appended(await self._append(user, message_id, content_ttl_s))

    def append_to_all(
        self,
        users: Sequence[str],
        message_id: str,
        content_ttl_s: int,
        *,
        had_it: bool = False,
        unanswered: bool = False,
    ) -> Awaitable[list[Appended | StoreError]]:
        """As `append`, for each of them in this order; on their way before it is awaited, as it has to be.

        An error stands where one failed. `had_it`: all of them had it once, however long ago: it only tells
        who still has. `unanswered`: whether the content is there is not known yet, so each looks, and is an
        error of kind `content` where it is not; on an engine without slots only.
        """
        content = self._keys.content(message_id) if unanswered else None
        # Futures, not coroutines: a task for each user would cost as much as the append.
        return _outcomes([self._append(user, message_id, content_ttl_s, had_it, content) for user in users])

    def _append(
        self,
        user: str,
        message_id: str,
        content_ttl_s: int,
        had_it: bool = False,
        content: str | None = None,
    ) -> Awaitable[Sequence[Any]]:
        keys = self._keys
        kinds = (keys.inbox, keys.seq, keys.seen, keys.missed, keys.presence, keys.gone)
        names = [key(user) for key in kinds]
        if content is not None:
            names.append(content)
        ttl_s = max(self._ttl_s, content_ttl_s) + self._record_s
        arguments: list[Argument] = [
            message_id,
            self._cap,
            ttl_s,
            self._idempotency_s,
            SEEN_MAX,
            MISSED_TTL_S,
            GONE_MAX,
            GONE_TTL_S,
            int(had_it),
        ]
        return self._commands.publish("inbox_append", names, arguments)

    async def read(self, user: str, count: int) -> Page:
        """The first `count` ids."""
        names = [self._keys.inbox(user), self._keys.seq(user), self._keys.missed(user)]
        return Page.of(await self._commands.script("inbox_read", names, [count]))

    async def settle(self, user: str, ids: Sequence[str | bytes]) -> int:
        """Remove ids whose exposure was accepted; answers how many were there."""
        return await self._remove(user, "", ids)

    async def drop_expired(self, user: str, ids: Sequence[str | bytes]) -> int:
        """Remove ids whose content is gone, and count them as missed; answers how many were there."""
        return await self._remove(user, "expired", ids)

    async def drop_recalled(self, user: str, ids: Sequence[str | bytes]) -> int:
        """Remove ids whose content was recalled, which is no miss; answers how many were there."""
        return await self._remove(user, "recalled", ids)

    async def _remove(self, user: str, reason: str, ids: Sequence[str | bytes]) -> int:
        names = [self._keys.inbox(user), self._keys.missed(user), self._keys.gone(user)]
        arguments: list[Argument] = [reason, MISSED_TTL_S, GONE_MAX, GONE_TTL_S, *ids]
        gone: int = await self._commands.script("inbox_remove", names, arguments)
        return gone

    async def told(self, user: str, missed: Missed) -> None:
        """The user confirmed having been told of `missed`."""
        counts = {"expired": missed.expired, "evicted": missed.evicted, "parked": missed.parked}
        flat: list[Argument] = [item for field, count in counts.items() if count for item in (field, count)]
        await self._commands.script("missed_told", [self._keys.missed(user)], flat)

    async def blame(self, user: str, alone: str | None, *, from_log: bool = False) -> bool:
        """The client closed because of what it was sent; `alone` is the id if just one was in flight.

        True when that id was parked by this.
        """
        keys = self._keys
        kinds = (keys.blame, keys.inbox, keys.parked, keys.missed, keys.gone)
        names = [key(user) for key in kinds]
        lives = (BLAME_TTL_S, PARKED_TTL_S, MISSED_TTL_S)
        arguments: list[Argument] = [alone or "", *lives, int(from_log), GONE_MAX, GONE_TTL_S]
        return bool(await self._commands.script("inbox_blame", names, arguments) == 1)

    async def absolve(self, user: str) -> None:
        """Everything that was under suspicion was confirmed: catch up by the full window again."""
        await self._commands.call("DEL", self._keys.blame(user))

    async def ids(self, user: str) -> list[str]:
        """Every id that waits, oldest first."""
        entries = await self._commands.call("LRANGE", self._keys.inbox(user), 0, -1)
        return [entry.decode("ascii", "backslashreplace") for entry in entries]

    async def parked(self, user: str) -> list[str]:
        """Every parked id, in the order they were parked."""
        entries = await self._commands.call("LRANGE", self._keys.parked(user), 0, -1)
        return [entry.decode("ascii", "backslashreplace") for entry in entries]

    async def put_back(self, user: str, message_id: str) -> Appended | None:
        """Put a parked id back, behind all that waits, as if it had not been parked; None if it is not."""
        keys = self._keys
        names = [keys.inbox(user), keys.seq(user), keys.parked(user), keys.presence(user), keys.gone(user)]
        arguments: list[Argument] = [message_id, self._ttl_s + self._record_s]
        done, seq, presence = await self._commands.publish("inbox_put_back", names, arguments)
        return Appended(True, True, seq, 0, _boots(presence)) if done else None

    async def erase(self, user: str) -> set[str]:
        """Remove every key of the user but presence, which is what the pods say.

        Answers the messages that were not settled: those that waited, were parked, or are known to have gone.
        """
        keys = self._keys
        kinds = (
            keys.inbox,
            keys.parked,
            keys.gone,
            keys.seq,
            keys.seen,
            keys.missed,
            keys.blame,
            keys.cursor,
        )
        names = [key(user) for key in (*kinds, keys.categories)]
        waiting, parked, gone = await self._commands.script("inbox_erase", names, [])
        entries = (*waiting, *parked, *(entry.rpartition(b" ")[2] for entry in gone))
        return {entry.decode("ascii") for entry in entries if _MESSAGE_ID(entry)}

    async def waiting(self, user: str) -> tuple[int, int]:
        """How many ids wait, and how many are parked."""
        waiting, parked = (
            self._commands.call("LLEN", self._keys.inbox(user)),
            self._commands.call("LLEN", self._keys.parked(user)),
        )
        return int(await waiting), int(await parked)


async def _outcomes(answers: Sequence[Awaitable[Sequence[Any]]]) -> list[Appended | StoreError]:
    outcomes: list[Appended | StoreError] = []
    for answer in answers:
        try:
            outcomes.append(_appended(await answer))
        except StoreError as error:
            outcomes.append(error)
    return outcomes


def _appended(answer: Sequence[Any]) -> Appended:
    status, seq, evicted, presence = answer
    return Appended(status == 1, status != 0, seq, evicted, _boots(presence))


def _boots(presence: Sequence[bytes]) -> dict[str, int]:
    return {pod: record.get("boot", 0) for pod, record in presence_of(presence).items()}
