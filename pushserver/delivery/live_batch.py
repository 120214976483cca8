"""What arrives in the log, as it is given to many connections at once: made once, for all of them."""

from __future__ import annotations

from collections.abc import Sequence

from pushserver.core.message import Message
from pushserver.delivery.receipts import PATIENT, PING_EVERY_BYTES, PING_EVERY_MESSAGES
from pushserver.delivery.sent import Sent

__all__ = ["NOTED_BYTES", "NOTED_MAX", "LiveBatch", "Placed"]

NOTED_MAX = PING_EVERY_MESSAGES * PATIENT
NOTED_BYTES = PING_EVERY_BYTES * PATIENT
"""What a connection may note before it writes it down: as much as may go without a ping."""

Placed = tuple[int, Message]
"""A message with its place in the log, or what stands for one (`delivery.sent`)."""


class LiveBatch:
    """Messages from the log in its order, and their frames in one piece, to be written as they are."""

    __slots__ = (
        "_deflated",
        "_placed",
        "by_id",
        "count",
        "first",
        "frames",
        "items",
        "last",
        "size",
        "weight",
    )

    def __init__(self, placed: Sequence[Placed], now_ms: int) -> None:
        self.items = [Sent(message, position, "live", now_ms) for position, message in placed]
        self.by_id = {sent.id: sent for sent in self.items}
        self.count = len(placed)
        self.frames = b"".join([message.frame for _, message in placed])
        self.size = len(self.frames)
        """In bytes."""
        self.weight = max(self.count, -(-self.size * NOTED_MAX // NOTED_BYTES))
        """How much it is of what may be noted, in messages: by their number or their bytes."""
        self._placed = placed
        self._deflated: dict[int, bytes] = {}
        self.first = placed[0][0]
        self.last = placed[-1][0]
        """Places in the log."""

    def deflated(self, most: int) -> bytes:
        """As `frames`, one piece as well, for clients that take compressed ones of up to `most` bytes."""
        frames = self._deflated.get(most)
        if frames is None:
            frames = b"".join([message.deflated(most) for _, message in self._placed])
            self._deflated[most] = frames
        return frames
