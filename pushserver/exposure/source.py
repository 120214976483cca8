"""Where the consumer reads exposure events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

__all__ = ["Delivery", "Source"]


class Delivery(NamedTuple):
    """One event as it was read: what to acknowledge it by, and its JSON."""

    handle: str
    data: bytes


class Source(Protocol):
    """Gives events out, and again if they are not finished; several consumers share it.

    Each method but `close` may raise `SourceError`.
    """

    async def open(self) -> None:
        """Connect, and see that there is something to read from."""

    async def receive(self) -> Sequence[Delivery]:
        """The next events, bounded in number and bytes; empty when none came within about a second.

        What was given out is kept from other consumers until it is finished or this consumer is gone.
        """

    async def finish(self, deliveries: Sequence[Delivery]) -> None:
        """They are committed, and need not come again. Some may all the same."""

    async def close(self) -> None:
        """Give back what is not finished and disconnect. Twice is once."""
