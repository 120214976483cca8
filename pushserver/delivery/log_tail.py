"""The tail of the log: who the recent messages to categories and to everyone are for, in memory.

So a message to a category costs two writes, whatever the number of users it means, and catching up reads no
stream for each user.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from heapq import merge

from pushserver.core.categories import Categories, matches

__all__ = ["LogTail", "Targeted"]

EVERYONE = ("", "")
"""The pair under which messages to everyone are found."""
MAX_SCAN = 2000
"""Messages looked at in one query: some 2 ms, however few of them mean the user."""


class Targeted:
    """One message of the log: its place, its id, whom it means and when its content goes away."""

    __slots__ = ("again", "expires_at", "message_id", "over", "position", "target")

    def __init__(self, position: int, message_id: str, target: Categories, expires_at: int = 0) -> None:
        self.position = position
        self.message_id = message_id
        self.target = target
        self.expires_at = expires_at
        """Milliseconds since 1970; 0 if that is not known."""
        self.over = False
        """Its content is gone, and its id is another message's now."""
        self.again = False
        """Its id was that of another message, which is over."""

    def __lt__(self, other: Targeted) -> bool:
        return self.position < other.position


class _Row:
    """Messages in the order of the log, taken off at the front; a list, for it is searched by position."""

    __slots__ = ("gone", "messages")

    def __init__(self) -> None:
        self.messages: list[Targeted] = []
        self.gone = 0

    def drop_first(self) -> bool:
        """Take the first one off; True if none is left."""
        self.gone += 1
        if self.gone * 2 > len(self.messages):
            del self.messages[: self.gone]
            self.gone = 0
        return not self.messages

    def after(self, position: int) -> Iterator[Targeted]:
        at = bisect_right(self.messages, position, lo=self.gone, key=lambda one: one.position)
        for index in range(at, len(self.messages)):
            yield self.messages[index]


class LogTail:
    """The last `max_length` messages of the log, at most `retention_ms` old, indexed by category.

    Each message stands under the values of one kind of its target, the one with the fewest; who has none of
    these values is not meant.
    """

    def __init__(self, *, max_length: int, retention_ms: int) -> None:
        self._max_length = max_length
        self._retention_ms = retention_ms
        self._all: deque[Targeted] = deque()
        self._ids: dict[str, Targeted] = {}
        self._rows: dict[tuple[str, str], _Row] = {}
        self.start = 0
        """Place up to which messages may be missing here; 0 if none ever was dropped."""
        self.position = 0
        """Place of the last entry that was seen."""
        self.offered = 0
        """Place up to which every live connection was offered everything."""
        self._appended = 0
        self._marks = (0, 0)

    def __len__(self) -> int:
        return len(self._all)

    def begin(self, start: int, position: int) -> None:
        """Begin anew, knowing nothing up to `start`."""
        self._all.clear()
        self._ids.clear()
        self._rows.clear()
        self.start, self.position, self._marks = start, position, (0, 0)

    def append(self, message: Targeted, now_ms: int) -> bool:
        """Add the next message and drop what is too old or too much; False if its id is here already.

        Other programs, and who repeats a publish after its time, may append an id twice: it counts once. An
        id that is given to another message afterwards is that message's.
        """
        self.position = max(self.position, message.position)
        held = self._ids.get(message.message_id)
        if held is not None and _same(held, message):
            return False
        if held is not None:
            held.over = message.again = True
        self._ids[message.message_id] = message
        self._all.append(message)
        for pair in _pairs(message.target):
            self._rows.setdefault(pair, _Row()).messages.append(message)
        self._appended += 1
        if self._appended % max(1, self._max_length // 4) == 0:
            self._marks = (self._marks[1], message.position)
        self._drop(now_ms)
        return True

    def _drop(self, now_ms: int) -> None:
        oldest = (now_ms - self._retention_ms) << 64
        while self._all and (len(self._all) > self._max_length or self._all[0].position < oldest):
            self._drop_first()

    def _drop_first(self) -> None:
        dropped = self._all.popleft()
        if self._ids.get(dropped.message_id) is dropped:
            del self._ids[dropped.message_id]
        for pair in _pairs(dropped.target):
            if self._rows[pair].drop_first():
                del self._rows[pair]
        self.start = dropped.position

    def old(self, now_ms: int) -> int:
        """A cursor before this place may soon be overtaken by the trimming of the log: move it on."""
        return max(self._marks[0], (now_ms - self._retention_ms // 2) << 64)

    def after(self, position: int, have: Categories, count: int) -> tuple[list[Targeted], int]:
        """The first `count` messages behind `position` that mean a user with these categories, in order.

        And the place up to which that is all of them: short of `self.position` there may be more.
        """
        if position >= self.position:
            return [], position
        pairs = [EVERYONE, *((kind, value) for kind, values in have.items() for value in values)]
        rows = [self._rows[pair].after(position) for pair in pairs if pair in self._rows]
        found: list[Targeted] = []
        last = position
        for scanned, message in enumerate(rows[0] if len(rows) == 1 else merge(*rows)):
            if len(found) == count or scanned == MAX_SCAN:
                return found, last
            # A user with two of its values finds it twice.
            if message.position > last and not message.over and matches(message.target, have):
                found.append(message)
            last = message.position
        return found, self.position


def _same(held: Targeted, message: Targeted) -> bool:
    """Two messages of one id differ in when they expire; no clock is asked, for those of two nodes differ."""
    return not message.expires_at or not held.expires_at or message.expires_at == held.expires_at


def _pairs(target: Categories) -> list[tuple[str, str]]:
    if not target:
        return [EVERYONE]
    kind, values = min(target.items(), key=lambda item: len(item[1]))
    return [(kind, value) for value in values]
