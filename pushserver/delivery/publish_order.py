"""The order of publishes that go on at the same time in one process.

Content is stored before its message is appended to inboxes. In a cluster contents are spread over the nodes,
so a later one may be stored before an earlier one: its appends then wait until those of the earlier begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

__all__ = ["Place", "PublishOrder"]


class PublishOrder:
    """Gives out places, in the order they are asked for."""

    def __init__(self) -> None:
        self._last: dict[str, Place] = {}
        """Of each inbox that is published to now: the last place."""

    def place(self, inboxes: Sequence[str]) -> Place:
        """A place behind all that were given for any of these inboxes. It has to be left."""
        before = {self._last[inbox] for inbox in inboxes if inbox in self._last}
        place = Place(self, inboxes, before)
        self._last.update(dict.fromkeys(inboxes, place))
        return place

    def forget(self, place: Place) -> None:
        """It has been left by then, and so has everything before it."""
        for inbox in place.inboxes:
            if self._last.get(inbox) is place:
                del self._last[inbox]


class Place:
    """One publish's place among all that go to the same inboxes.

    Nobody waits longer than the steps of those before take, each of which ends within `redis.timeout_ms`.
    """

    def __init__(self, order: PublishOrder, inboxes: Sequence[str], before: set[Place]) -> None:
        self.inboxes = inboxes
        self._order = order
        self._ahead = len(before)
        self._behind: list[Place] = []
        self._left = False
        self._coming: asyncio.Future[None] | None = None
        for place in before:
            place._behind.append(self)

    async def come(self) -> None:
        """Return when everybody before has left."""
        if self._ahead:
            self._coming = asyncio.get_running_loop().create_future()
            await self._coming

    def leave(self) -> None:
        """The appends have begun, or never will: those behind may come. Twice is once."""
        if self._left:
            return
        self._left = True
        # Whoever fails early does not let those behind overtake those before.
        passing = [] if self._ahead else [self]
        while passing:
            place = passing.pop()
            self._order.forget(place)
            passing += [one for one in place._behind if one._comes_next() and one._left]

    def _comes_next(self) -> bool:
        """One of those before has passed; True if it was the last."""
        self._ahead -= 1
        if not self._ahead and self._coming is not None and not self._coming.done():
            self._coming.set_result(None)
        return not self._ahead
