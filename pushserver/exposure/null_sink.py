"""The sink `none`: nobody wants to know."""

from __future__ import annotations

from collections.abc import Sequence

from pushserver.exposure.event import Event

__all__ = ["NullSink"]


class NullSink:
    """Accepts every event and forgets it."""

    async def start(self) -> None:
        """Nothing to connect to."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Accepted."""

    async def close(self) -> None:
        """Nothing to give up."""
