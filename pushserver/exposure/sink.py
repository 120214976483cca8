"""Where exposure events go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pushserver.exposure.event import Event

__all__ = ["Sink"]


class Sink(Protocol):
    """Takes exposure events: Pub/Sub, the stream in Redis, or nobody."""

    async def start(self) -> None:
        """Connect, if there is anything to connect to. Raises `SinkError`; `publish` then tries again."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Hand events over; returns when all of them are accepted.

        Raises `SinkUnavailableError` or `SinkRefusedError` when not. Some may have been accepted then, and
        are when the caller repeats them all: who stores them ignores what it has.
        """

    async def close(self) -> None:
        """Give up what is not accepted yet (its `publish` raises) and disconnect. Twice is once."""
