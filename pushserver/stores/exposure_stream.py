"""The stream `exposures`: spool of what Pub/Sub did not take, and broker where there is no Pub/Sub.

Its entries have one field, `data`, an event's JSON. One consumer group reads it, each pod (or consumer)
under its own name; an entry is deleted when it is finished, so the length is what waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

from pushserver.core.errors import StoreRefusedError
from pushserver.stores.commands import Argument

__all__ = ["GROUP", "ExposureStream"]

GROUP = "exposures"
"""Name of the consumer group."""

ASIDE_MAX = 100
"""Entries kept aside at most; the oldest go."""

MAX_ADD_BYTES = 1024 * 1024
"""Data sent in one script: what shares the pipeline must not wait for much more."""

Entry = tuple[bytes, bytes]
"""Id and data; the data is empty when the entry was deleted or has no field `data`."""


class _Event(Protocol):
    @property
    def data(self) -> bytes: ...


class _Commands(Protocol):
    def call(self, *args: Argument) -> Awaitable[Any]: ...

    def script(self, name: str, keys: Sequence[str], args: Sequence[Argument]) -> Awaitable[Any]: ...


class ExposureStream:
    """The stream under `key`, holding at most `max_length` entries (`exposure.spool_max`).

    Every method may raise `StoreError`. The group is made when it is missing: at the first read, and after
    Redis came back empty.
    """

    def __init__(self, commands: _Commands, key: str, max_length: int) -> None:
        self._commands = commands
        self._key = key
        self._max_length = max_length

    async def add(self, events: Sequence[_Event]) -> int:
        """Add events in order while there is room; answers how many: the rest is not stored.

        On an error some may have been added. Works in a Redis that is out of memory.
        """
        added = 0
        for part in _parts(events):
            arguments: list[Argument] = [self._max_length, *(event.data for event in part)]
            stored: int = await self._commands.script("exposure_add", [self._key], arguments)
            added += stored
            if stored < len(part):
                break
        return added

    async def length(self) -> int:
        """Entries that wait, those included that somebody is moving on right now."""
        length: int = await self._commands.call("XLEN", self._key)
        return length

    async def read_new(self, consumer: str, count: int) -> list[Entry]:
        """The oldest entries that nobody has read, now `consumer`'s until finished or claimed."""
        return await self._read(consumer, count, ">")

    async def read_pending(self, consumer: str, count: int) -> list[Entry]:
        """The oldest entries that `consumer` has read and not finished; counts as touching them."""
        return await self._read(consumer, count, "0")

    async def claim(self, consumer: str, count: int, idle_ms: int) -> list[Entry]:
        """Entries that others have read and not touched for `idle_ms`, now `consumer`'s."""
        start = b"0-0"
        while True:
            start, entries = await self._claim_from(start, consumer, count, idle_ms)
            # One command looks through ten times `count` entries; the idle ones may come after those.
            if entries or start == b"0-0":
                return entries

    async def touch(self, consumer: str, ids: Sequence[bytes]) -> None:
        """Make `consumer`'s entries count as touched just now, so that nobody claims them.

        An entry that was claimed meanwhile comes back to `consumer`; one that was finished stays gone.
        """
        command: list[Argument] = ["XCLAIM", self._key, GROUP, consumer, 0, *ids, "JUSTID"]
        await self._with_group(lambda: self._commands.call(*command))

    async def finish(self, ids: Sequence[bytes]) -> None:
        """Remove entries. Twice is once."""
        # Deleted and answered before it is acknowledged: cut between the two, a deleted entry stays on a
        # consumer's list and goes at its next reading; an acknowledged one would fill the stream for ever.
        await self._commands.call("XDEL", self._key, *ids)
        await self._commands.call("XACK", self._key, GROUP, *ids)

    async def set_aside(self, events: Sequence[_Event]) -> None:
        """Keep events apart that nobody takes, the newest `ASIDE_MAX`, for an operator to look at."""
        for event in events:
            await self._commands.call(
                "XADD", f"{self._key}-aside", "MAXLEN", ASIDE_MAX, "*", "data", event.data
            )

    async def forget_consumers(self, idle_ms: int) -> None:
        """Forget consumers that hold no entry and have not asked for any for `idle_ms`."""
        rows = await self._with_group(lambda: self._commands.call("XINFO", "CONSUMERS", self._key, GROUP))
        for row in rows:
            about = dict(zip(row[::2], row[1::2], strict=True))
            if about[b"pending"] == 0 and about[b"idle"] >= idle_ms:
                await self._commands.call("XGROUP", "DELCONSUMER", self._key, GROUP, about[b"name"])

    async def _read(self, consumer: str, count: int, after: str) -> list[Entry]:
        command = ("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count, "STREAMS", self._key, after)
        streams = await self._with_group(lambda: self._commands.call(*command))
        return [_entry(raw) for raw in streams[0][1]] if streams else []

    async def _claim_from(
        self, start: bytes, consumer: str, count: int, idle_ms: int
    ) -> tuple[bytes, list[Entry]]:
        command = ("XAUTOCLAIM", self._key, GROUP, consumer, idle_ms, start, "COUNT", count)
        answer = await self._with_group(lambda: self._commands.call(*command))
        return answer[0], [_entry(raw) for raw in answer[1]]

    async def _with_group(self, send: Callable[[], Awaitable[Any]]) -> Any:
        """Send a command that needs the group, which is gone when Redis came back empty."""
        try:
            return await send()
        except StoreRefusedError as error:
            if "NOGROUP" not in error.reason and "no such key" not in error.reason:
                raise
        await self._make_group()
        return await send()

    async def _make_group(self) -> None:
        """Make the group, from the first entry on; another pod may be quicker."""
        try:
            await self._commands.call("XGROUP", "CREATE", self._key, GROUP, "0", "MKSTREAM")
        except StoreRefusedError as error:
            if "BUSYGROUP" not in error.reason:
                raise


def _parts(events: Sequence[_Event]) -> Iterator[Sequence[_Event]]:
    """Cut into parts of at most `MAX_ADD_BYTES`, or of one event."""
    start = size = 0
    for end, event in enumerate(events):
        if size + len(event.data) > MAX_ADD_BYTES and end > start:
            yield events[start:end]
            start, size = end, 0
        size += len(event.data)
    if events:
        yield events[start:]


def _entry(raw: Sequence[Any]) -> Entry:
    entry_id, fields = raw
    pairs = dict(zip(fields[::2], fields[1::2], strict=True)) if fields else {}
    return entry_id, pairs.get(b"data", b"")
