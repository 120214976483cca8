"""What was sent on a connection and is not settled yet."""

from __future__ import annotations

from pushserver.core.message import Message
from pushserver.exposure.event import Source

__all__ = ["INBOX", "LIVE_ONLY", "Sent"]

INBOX = 0
"""In place of a log position: the message came from the inbox."""
LIVE_ONLY = -1
"""In place of a log position: the message is stored nowhere."""


class Sent:
    """A message that was written to a connection and is not settled yet."""

    __slots__ = ("confirmed", "end", "id", "position", "pushed_at", "queued_at", "size", "source")

    def __init__(self, message: Message, position: int, source: Source, pushed_at: int, end: int) -> None:
        self.id = message.id
        self.size = len(message.frame)
        self.queued_at = message.queued_at
        self.position = position
        """Its place in the log, or `INBOX` or `LIVE_ONLY`."""
        self.source: Source = source
        self.pushed_at = pushed_at
        """Milliseconds since 1970 by Redis' clock."""
        self.end = end
        """Where its last byte stands in all that was ever written to the transport."""
        self.confirmed = False
