"""The log: one stream of the messages to categories and to everyone, and of what was recalled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from pushserver.core.categories import Categories, parse_categories
from pushserver.core.jsontext import dump, parse_quick
from pushserver.core.names import check_message_id
from pushserver.stores.commands import Argument, Commands
from pushserver.stores.keys import Keys
from pushserver.stores.stream import Entry, StreamReader, fields_of, position_of, stream_id

__all__ = ["LogEntry", "LogRange", "LogStore"]

PAGE = 500
FIND_PAGES = 20


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A message to whom `target` means (no kind: everyone), or, without a target, a recall of that id."""

    position: int
    message_id: str
    target: Categories | None
    text: bytes = b""
    """Of a small message; else it is read like any content."""
    expires_at: int = 0
    """Milliseconds since 1970 when its content goes away."""


@dataclass(frozen=True, slots=True)
class LogRange:
    """What the stream spans."""

    trimmed_upto: int
    """Position up to which entries may be missing; 0 if none is."""
    last: int
    """Position of the last entry that was ever appended; 0 if none was."""


class LogStore:
    """Appends to the log, and reads it."""

    def __init__(
        self,
        commands: Commands,
        keys: Keys,
        reader: StreamReader,
        *,
        max_length: int,
        retention_s: int,
        idempotency_s: int,
    ) -> None:
        self._commands = commands
        self._key = keys.log
        self._seen = keys.log_seen
        self._reader = reader
        self._max_length = max_length
        self._retention_ms = retention_s * 1000
        self._idempotency_ms = idempotency_s * 1000

    async def append(self, message_id: str, target: Categories, text: str, expires_at: int) -> bool:
        """Append a message, once for each id and time; False when it was there before.

        `text` is "" if not small.
        """
        arguments: list[Argument] = [
            # A repeat has the same time; another message, which was given the id afterwards, a later one.
            f"{message_id} {expires_at}",
            self._max_length,
            self._retention_ms,
            self._idempotency_ms,
            *("id", message_id, "to", dump(target), "expires", expires_at),
            *(("text", text) if text else ()),
        ]
        return bool(await self._commands.publish("log_append", [self._key, self._seen], arguments) == 1)

    async def recall(self, message_id: str) -> None:
        """Tell every pod that the message was recalled. A repeat is harmless."""
        await self._commands.call(
            "XADD", self._key, "MAXLEN", "~", self._max_length, "*", "recall", message_id
        )

    async def range(self) -> LogRange:
        """What the stream spans now."""
        if not await self._commands.call("EXISTS", self._key):
            return LogRange(0, 0)
        flat = await self._commands.call("XINFO", "STREAM", self._key)
        about = dict(zip(flat[::2], flat[1::2], strict=True))
        last = position_of(about[b"last-generated-id"])
        if about[b"entries-added"] == about[b"length"]:
            return LogRange(0, last)
        first = about[b"first-entry"]
        return LogRange(last if first is None else position_of(first[0]) - 1, last)

    async def find(self, message_id: str, since_ms: int) -> LogEntry | None:
        """The first entry of that message among the first 10 000 that were appended since."""
        after = str(since_ms)
        for _ in range(FIND_PAGES):
            page = await self._commands.call("XRANGE", self._key, after, "+", "COUNT", PAGE)
            for entry in _known([(position_of(entry_id), flat) for entry_id, flat in page]):
                if entry.message_id == message_id and entry.target is not None:
                    return entry
            if len(page) < PAGE:
                return None
            after = "(" + page[-1][0].decode()
        return None

    async def past(self, upto: int) -> AsyncIterator[list[LogEntry]]:
        """Everything that the stream holds up to a position, oldest first, in pages."""
        after = "-"
        while True:
            page = await self._commands.call("XRANGE", self._key, after, stream_id(upto), "COUNT", PAGE)
            if not page:
                return
            yield _known([(position_of(entry_id), flat) for entry_id, flat in page])
            after = "(" + page[-1][0].decode()

    async def read(self, after: int, count: int) -> tuple[list[LogEntry], int]:
        """Up to `count` entries behind `after`, waited for a second at most; and how far that is."""
        entries = await self._reader.read(self._key, after, count)
        return _known(entries), entries[-1][0] if entries else after


def _known(entries: Sequence[Entry]) -> list[LogEntry]:
    """Those that say something that is known: anybody may write into the stream."""
    return [known for entry in entries if (known := _entry(*entry)) is not None]


def _entry(position: int, flat: Sequence[bytes]) -> LogEntry | None:
    fields = fields_of(flat)
    try:
        if b"recall" in fields:
            return LogEntry(position, check_message_id(fields[b"recall"].decode()), None)
        return LogEntry(
            position,
            check_message_id(fields[b"id"].decode()),
            parse_categories(parse_quick(fields[b"to"])),
            fields.get(b"text", b""),
            int(fields.get(b"expires", b"0")),
        )
    except (KeyError, ValueError):
        return None
