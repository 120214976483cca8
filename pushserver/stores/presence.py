"""Presence: "user U is online on pod P", one record per user and pod; and the index of who that is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pushserver.core.errors import StoreError
from pushserver.stores.commands import Commands
from pushserver.stores.inbox import Page
from pushserver.stores.keys import Keys, presence_field
from pushserver.stores.presence_field import presence_of, read_presence

__all__ = ["FirstPage", "PresenceStore", "Seen"]


@dataclass(frozen=True, slots=True)
class FirstPage:
    """What a presence write brings back: was it written, and the inbox as it stood right after."""

    written: bool
    """False when a newer boot of this pod's name holds the field: this process was taken over."""
    page: Page | None
    blamed: bool
    """A close of this user blames content: catch up one message at a time."""
    categories_version: int = 0
    """Which version of the user's categories is stored, read right after the write; 0 for none."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the rescan sees of a user."""

    seq: int
    boot: int | None
    """The boot in this pod's presence field; None if there is no field, 0 if it is unreadable."""
    categories_version: int = 0
    """Which version of the user's categories is stored; 0 for none."""


class PresenceStore:
    """Presence fields and the index of one pod name. Every write is a script that yields to a newer boot."""

    def __init__(self, commands: Commands, keys: Keys, pod: str) -> None:
        self._commands = commands
        self._keys = keys
        self._pod = pod

    def index_add(self, boot: int, users: Sequence[str]) -> Awaitable[object]:
        """Put users into `pod-users`; to be answered before their presence is sent."""
        return self._commands.script("index_add", [self._keys.pod_users(self._pod)], [boot, *users])

    async def index_remove(self, boot: int, users: Sequence[str]) -> None:
        """Take users out of `pod-users`; to be sent after the removal of their presence was answered."""
        keys = [self._keys.pod(self._pod), self._keys.pod_users(self._pod)]
        await self._commands.script("index_remove", keys, [boot, *users])

    async def write(self, boot: int, user: str, since_ms: int, page: int) -> FirstPage:
        """Write presence; with `page` above 0, also read that many ids of the inbox, right after it."""
        keys = self._keys
        names = [keys.presence(user), keys.inbox(user), keys.seq(user), keys.missed(user)]
        names += [keys.blame(user), keys.categories(user)]
        answer = await self._commands.script(
            "presence_set", names, [presence_field(user, self._pod), boot, since_ms, page]
        )
        if page == 0:
            return FirstPage(answer[0] == 1, None, False)
        return FirstPage(answer[0] == 1, Page.of(answer[1:6]), answer[6] == 1, answer[7])

    async def remove(self, boot: int, user: str, pod: str | None = None) -> bool:
        """Remove presence on `pod` (this one by default) written by `boot` or an older one; idempotent.

        False when a newer boot holds it.
        """
        field = presence_field(user, pod or self._pod)
        answer = await self._commands.script("presence_remove", [self._keys.presence(user)], [field, boot])
        return bool(answer >= 0)

    async def look(self, users: Iterable[str]) -> list[Seen | Exception]:
        """Of each user the sequence, this pod's presence field and the version of categories, of one moment.

        In their order; a `StoreError` where there is no answer, any other error where it cannot be read.
        """
        keys, pod = self._keys, self._pod
        calls = (
            ((keys.presence(user), keys.seq(user), keys.categories(user)), (presence_field(user, pod),))
            for user in users
        )
        return [_seen(answer) for answer in await self._commands.scripts("presence_look", calls)]

    async def pods_of(self, user: str) -> dict[str, dict[str, int]]:
        """Every pod the user is present on, with `boot` and `since` (ms), as far as they can be read."""
        return presence_of(await self._commands.call("HGETALL", self._keys.presence(user)))

    async def indexed(self, pod: str) -> AsyncIterator[list[str]]:
        """The users in a pod's index, some hundred at a time; one may come twice.

        What is no text was written by somebody else, and is left out.
        """
        cursor = b"0"
        while True:
            cursor, flat = await self._commands.call("HSCAN", self._keys.pod_users(pod), cursor, "COUNT", 500)
            users = [user for name in flat[::2] if (user := _text(name)) is not None]
            if users:
                yield users
            if cursor == b"0":
                return


def _seen(answer: Any) -> Seen | Exception:
    if isinstance(answer, StoreError):
        return answer
    try:
        seq, field, version = answer
        return Seen(seq, None if field is None else read_presence(field).get("boot", 0), version)
    except Exception as error:
        return error


def _text(name: bytes) -> str | None:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return None
