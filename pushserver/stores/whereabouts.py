"""Where messages are: what is on record of each, and what is known of each user's.

    waiting     in the inbox
    parked      taken out of it as poison
    gone        left it unseen: expired, evicted, recalled (noted for the latest of a user)

What is in none of them and was accepted has left the inbox the one other way: settled, after its exposure.
Unless more have gone than are noted of its user (`UserTrace.is_full`): then it may have gone as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from pushserver.core.errors import StoreRefusedError
from pushserver.core.publication import KINDS as PUBLICATION_KINDS
from pushserver.stores.commands import Commands
from pushserver.stores.keys import GONE_MAX, SEEN_MAX, Keys

__all__ = ["GONE_REASONS", "SKEW_MS", "MessageRecord", "Trace", "UserTrace", "Whereabouts"]

GONE_REASONS = ("expired", "evicted", "recalled", "parked")
SKEW_MS = 600_000
"""How far the clocks of two nodes of a cluster may be apart: a message and a user have a node each."""
MAX_DIGITS = 14
"""Of a number in a record: milliseconds up to the year 5138."""
USERS_AT_ONCE = 200
"""Users read in one go: an answer has at most three lists of theirs."""


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """What is on record of a message. Times are milliseconds since 1970 by Redis' clock."""

    message_id: str
    kind: str | None
    """As `Publication.kind`; None if another program wrote the content, or an older pod the record."""
    users: int
    """How many it names."""
    queued_at: int | None
    accepted_at: int | None
    """When a publish to users was completed; None before that, and for other kinds."""
    recalled: bool
    recalled_at: int | None
    sent: bool
    """One for the live only was handed to the pods."""
    erased: int
    """Users who were erased while it was not settled for them."""
    has_content: bool
    expires_at: int | None
    """When the content goes away; None if it is gone, or never goes."""
    is_known: bool
    """There is a record, or a content."""

    def state_of(self, trace: Trace | None) -> str | None:
        """Where it is for a user with that trace: one of `Trace.state`; None if nothing is known.

        What waits without a content is never delivered: it is only taken out when the user comes.
        """
        if trace is None:
            return None
        if trace.at_ms is not None and trace.at_ms + SKEW_MS < (self.queued_at or 0):
            return None  # it is about a former message of this id
        if trace.state == "waiting" and not self.has_content:
            return "recalled" if self.recalled else "expired"
        return trace.state


@dataclass(frozen=True, slots=True)
class Trace:
    """What is known of one message of a user."""

    state: str
    """`waiting`, or one of `GONE_REASONS`."""
    at_ms: int | None = None
    """When it left the inbox, if that was noted."""
    place: int = 0
    """How many wait before it."""


@dataclass(frozen=True, slots=True)
class UserTrace:
    """Every message that is known of a user, at one moment."""

    of: dict[str, Trace]
    is_full: bool
    """As many have gone as are noted: what went before is not known."""


class Whereabouts:
    """Reads them; nothing is written. All raise `StoreError`."""

    def __init__(self, commands: Commands, keys: Keys) -> None:
        self._commands = commands
        self._keys = keys

    async def message(self, message_id: str) -> MessageRecord:
        """What is on record of a message."""
        keys = [self._keys.content(message_id), self._keys.publish(message_id)]
        expiry, *held = await self._commands.script("message_look", keys, [])
        kind, users, queued_at, accepted_at, recalled, recalled_at, sent, erased, digest = held
        return MessageRecord(
            message_id=message_id,
            kind=_KINDS.get(kind),
            users=_number(users) or 0,
            queued_at=_number(queued_at),
            accepted_at=_number(accepted_at),
            recalled=recalled is not None,
            recalled_at=_number(recalled_at),
            sent=sent is not None,
            erased=_number(erased) or 0,
            has_content=expiry != _GONE,
            expires_at=expiry if expiry >= 0 else None,
            is_known=expiry != _GONE or digest is not None or recalled is not None,
        )

    async def user(self, user: str) -> UserTrace:
        """What is known of a user's messages."""
        keys = [self._keys.inbox(user), self._keys.parked(user), self._keys.gone(user), self._keys.seen(user)]
        return _trace(*await self._commands.script("user_look", keys, []))

    async def appended_at(self, user: str, message_id: str) -> int | None:
        """When an id was appended to a user's inbox, in ms; None if it was not, or too long ago."""
        try:
            score = await self._commands.call("ZSCORE", self._keys.seen(user), message_id)
        except StoreRefusedError:
            return None  # of another type: somebody else's
        return None if score is None else int(float(score))

    async def has_forgotten(self, user: str) -> bool:
        """Whether as many ids of a user are remembered as can be: earlier ones may be forgotten by then."""
        try:
            return bool(await self._commands.call("ZCARD", self._keys.seen(user)) >= SEEN_MAX)
        except StoreRefusedError:
            return True  # of another type: it remembers none

    async def messages(self) -> AsyncIterator[list[MessageRecord]]:
        """Every message that has a record, in pages; one may come twice."""
        async for page in self._commands.scan(_literal(self._keys.prefix) + "publish:*", "hash"):
            ids = {one for one in map(self._keys.message_of, page) if one is not None}
            yield await asyncio.gather(*map(self.message, ids))

    async def users(self) -> AsyncIterator[list[tuple[str, UserTrace]]]:
        """Every user with a message that is known, in pages, each once."""
        done: set[str] = set()
        async for page in self._commands.scan(_literal(self._keys.prefix) + "*", "list"):
            new = {one for one in map(self._keys.user_of, page) if one is not None} - done
            done |= new
            names = list(new)
            for start in range(0, len(names), USERS_AT_ONCE):
                part = names[start : start + USERS_AT_ONCE]
                yield list(zip(part, await asyncio.gather(*map(self.user, part)), strict=True))


_GONE = -2
_KINDS = {kind.encode(): kind for kind in PUBLICATION_KINDS}


def _trace(waiting: Sequence[bytes], parked: Sequence[bytes], gone: Sequence[bytes]) -> UserTrace:
    """Later ones count: what was parked and put back waits."""
    of: dict[str, Trace] = {}
    for entry in gone:
        reason, _, rest = entry.decode("ascii", "replace").partition(" ")
        at_ms, _, message_id = rest.partition(" ")
        if reason in GONE_REASONS and at_ms.isdecimal() and len(at_ms) <= MAX_DIGITS:
            of[message_id] = Trace(reason, int(at_ms))
    for entry in parked:
        message_id = entry.decode("ascii", "replace")
        known = of.get(message_id)
        of[message_id] = Trace("parked", known.at_ms if known and known.state == "parked" else None)
    for place, entry in enumerate(waiting):
        of[entry.decode("ascii", "replace")] = Trace("waiting", None, place)
    return UserTrace(of, len(gone) >= GONE_MAX)


def _number(text: Any) -> int | None:
    """Of what stands in a record, which anybody may have written."""
    return int(text) if text is not None and text.isdigit() and len(text) <= MAX_DIGITS else None


def _literal(text: str) -> str:
    """`text` as it stands in a pattern of SCAN."""
    return "".join("\\" + char if char in "*?[]\\^" else char for char in text)
