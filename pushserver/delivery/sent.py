"""What was sent and is not settled yet."""

from __future__ import annotations

from pushserver.core.message import Message
from pushserver.exposure.event import Source

__all__ = ["INBOX", "LIVE_ONLY", "Sent"]

INBOX = 0
"""In place of a log position: the message came from the inbox."""
LIVE_ONLY = -1
"""In place of a log position: the message is stored nowhere."""


class Sent:
    """A message that was written, to one connection or, as it is, to many at once; never changed."""

    __slots__ = ("id", "position", "pushed_at", "queued_at", "size", "source")

    def __init__(self, message: Message, position: int, source: Source, pushed_at: int) -> None:
        self.id = message.id
        self.size = len(message.frame)
        self.queued_at = message.queued_at
        self.position = position
        """Its place in the log, or `INBOX` or `LIVE_ONLY`."""
        self.source: Source = source
        self.pushed_at = pushed_at
        """Milliseconds since 1970 by Redis' clock."""
