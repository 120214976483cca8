"""What arrives in the log, as it is given to many connections at once: made once, for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from pushserver.core.cached import cached
from pushserver.core.message import Message
from pushserver.delivery.receipts import PATIENT, PING_EVERY_BYTES, PING_EVERY_MESSAGES
from pushserver.delivery.sent import Sent

__all__ = ["NOTED_BYTES", "NOTED_WEIGHT", "Entry", "LiveBatch", "Placed", "as_one"]

NOTED_WEIGHT = PING_EVERY_MESSAGES * PATIENT
"""What a connection may note before it writes it down, in messages: as much as may go without a ping."""
NOTED_BYTES = PING_EVERY_BYTES * PATIENT
"""The same in bytes."""
RUNS_MAX = 64
"""Runs of entries that are kept put together, for the other connections that noted the same."""

Placed = tuple[int, Message]
"""A message with its place in the log, or what stands for one (`delivery.sent`)."""


class Entry:
    """What stands for a batch in the books of each connection that it was given to. It knows no frames: those
    of a busy pod are large, and a connection may keep many entries.
    """

    __slots__ = ("by_id", "count", "first", "items", "last", "size")

    def __init__(self, items: Sequence[Sent], size: int) -> None:
        self.items = tuple(items)
        self.by_id: dict[str, Sent] = {}
        for sent in items:
            # Of one id the first, as in the ledger.
            self.by_id.setdefault(sent.id, sent)
        self.count = len(items)
        self.size = size
        """In bytes of plain frames."""
        self.first = items[0].position
        self.last = items[-1].position
        """Places in the log."""


@cached("runs", RUNS_MAX)
def as_one(entries: tuple[Entry, ...]) -> Entry:
    """One entry for all of these, in the order of the log; the same one for all who noted the same."""
    return Entry([sent for entry in entries for sent in entry.items], sum(entry.size for entry in entries))


class LiveBatch:
    """Messages from the log in its order, and their frames in one piece, to be written as they are."""

    __slots__ = ("_deflated", "_placed", "entry", "frames", "noted", "weight")

    def __init__(self, placed: Sequence[Placed], now_ms: int, *, look_closely: bool = False) -> None:
        self.frames = b"".join([message.frame for _, message in placed])
        items = [Sent(message, position, "live", now_ms) for position, message in placed]
        self.entry = Entry(items, len(self.frames))
        self.weight = max(len(items), -(-len(self.frames) * NOTED_WEIGHT // NOTED_BYTES))
        """How much it is of what may be noted, in messages: by their number or their bytes."""
        if look_closely:
            # As much as makes a connection write down what it noted, and look whether it had one of these.
            self.weight = NOTED_WEIGHT
        self.noted: tuple[Entry | None, ...] = (self.entry, *[None] * (self.weight - 1))
        """What a connection notes: as many places as it weighs."""
        self._placed = placed
        self._deflated: dict[int, bytes] = {}

    def to(self, most: int) -> bytes:
        """`frames`, for clients that take compressed ones of up to `most` bytes; 0: for those that take none.

        One piece as well.
        """
        if not most:
            return self.frames
        frames = self._deflated.get(most)
        if frames is None:
            frames = b"".join([message.deflated(most) for _, message in self._placed])
            self._deflated[most] = frames
        return frames
