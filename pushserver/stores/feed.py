"""The feed: a pod's stream of what it is told, made by that pod before it listens."""

from __future__ import annotations

from enum import IntEnum

from pushserver.stores.commands import Commands
from pushserver.stores.feed_entry import FeedEntry, decode, encode
from pushserver.stores.keys import Keys
from pushserver.stores.stream import StreamReader, position_of

__all__ = ["FeedStore", "Reach"]

FEED_MAX = 10_000
"""Entries that a feed holds, about: a pod that lags further behind looks at every inbox instead."""


class Reach(IntEnum):
    """Whether an entry reached a pod's feed."""

    TAKEN = 1
    NO_FEED = 0
    """It has a lease and no feed: it is about to make one, and looks at everything then."""
    DEAD = -1
    """It has neither."""


class FeedStore:
    """Feeds of all pods, to append to; this pod's own, to make and to read."""

    def __init__(self, commands: Commands, keys: Keys, reader: StreamReader, pod: str) -> None:
        self._commands = commands
        self._keys = keys
        self._reader = reader
        self._pod = pod

    async def open(self, boot: int) -> int | None:
        """Make this pod's feed, empty; the position it begins at, None if a newer boot holds the name."""
        keys = [self._keys.pod(self._pod), self._keys.feed(self._pod)]
        first = await self._commands.script("feed_open", keys, [boot])
        return None if first is None else position_of(first)

    async def append(self, pod: str, entry: FeedEntry) -> Reach:
        """Append to a pod's feed, if it has made one. A repeat is harmless."""
        keys = [self._keys.feed(pod), self._keys.pod(pod)]
        return Reach(await self._commands.script("feed_append", keys, [FEED_MAX, *encode(entry)]))

    async def first(self) -> int | None:
        """The position of the first entry of this pod's feed; None if there is none."""
        entries = await self._commands.call("XRANGE", self._keys.feed(self._pod), "-", "+", "COUNT", 1)
        return position_of(entries[0][0]) if entries else None

    async def last(self) -> int:
        """The position of the last entry of this pod's feed; 0 if there is none."""
        last = await self._commands.script("feed_last", [self._keys.feed(self._pod)], [])
        return 0 if last is None else position_of(last)

    async def read(self, after: int, count: int) -> list[tuple[int, FeedEntry | None]]:
        """Up to `count` entries of this pod's feed behind `after`, waited for a second at most.

        None for an entry that says nothing that is known.
        """
        entries = await self._reader.read(self._keys.feed(self._pod), after, count)
        return [(position, decode(fields)) for position, fields in entries]
