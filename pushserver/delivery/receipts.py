"""Receipts: one sequence of pings on a connection, whose pongs confirm what was written before them.

Every client answers a ping by itself and in order (RFC 6455 section 5.5.2 and 5.5.3), so a pong is proof
that all of it was received. The same sequence keeps the connection alive.
"""

from __future__ import annotations

from collections.abc import Iterator

from pushserver.core.frames import ping_frame
from pushserver.delivery.sent import Sent
from pushserver.stores.inbox import Missed

__all__ = ["Receipts"]

PING_EVERY_MESSAGES = 32
PING_EVERY_BYTES = 64 * 1024
PATIENT = 4
"""So many times as much goes between two pings while all of it can wait for its confirm."""

Items = tuple[Sent, ...]
"""Messages in order; many connections may have the same tuple."""


class Receipts:
    """Which pings are in flight, and what each of them would confirm.

    One ping is in flight at a time, so the rate follows the round trip; another goes only behind 32
    messages or 64 KiB, or four times that if all of it can wait.
    """

    __slots__ = (
        "_counter",
        "_marks",
        "_told",
        "_unmarked",
        "_unmarked_bytes",
        "_waits_since",
        "ping_by",
        "urgent",
    )

    def __init__(self) -> None:
        self._counter = 0
        self._marks: list[tuple[int, int, Items, int]] = []
        """Pings in flight, oldest first: counter, bytes before it, what it would confirm, bytes of this."""
        self._unmarked: Items = ()
        self._unmarked_bytes = 0
        self._told: tuple[int, Missed] | None = None
        """What the client was told that it missed, and the counter of the ping that would prove it."""
        self.urgent = False
        """Something that was added cannot wait."""
        self._waits_since = 0.0
        self.ping_by = 0.0
        """Monotonic second by which a ping is to go out for what can wait; 0 if nothing waits for one."""

    def add(self, items: Items, size: int, ping_by: float = 0.0) -> None:
        """`items`, of `size` bytes together, are about to be written: the next ping would confirm them.

        It goes out as soon as none is in flight, or where that can wait, by the second `ping_by`.
        """
        # As it is, if it is all: of a broadcast many connections have the same, and confirm the same.
        self._unmarked = (*self._unmarked, *items) if self._unmarked else items
        self._unmarked_bytes += size
        if not ping_by:
            self.urgent = True
        elif not self.ping_by:
            self.ping_by = ping_by

    def rides(self, until: float) -> bool:
        """Whether a ping is to go out with what was just added, and could wait.

        So if it is due by the second `until` and none is in flight, or if it is overdue.
        """
        return (self.ping_by <= until and not self._marks) or self.overdue

    def tell(self, missed: Missed) -> None:
        """What was missed is told in what is about to be written: the next ping would prove it."""
        self._told = (self._counter + 1, missed)

    def proven(self) -> Missed | None:
        """What was told, once, when the pong that proves it has come."""
        if self._told is None or self._counter < self._told[0] or self._in_flight(self._told[0]):
            return None
        missed, self._told = self._told[1], None
        return missed

    def _in_flight(self, counter: int) -> bool:
        return bool(self._marks) and self._marks[0][0] <= counter

    def unconfirmed(self) -> Iterator[Sent]:
        """All that was added and not confirmed yet, in order."""
        for _, _, items, _ in self._marks:
            yield from items
        yield from self._unmarked

    def hurry(self) -> None:
        """Something else waits for what was added to be confirmed: its ping cannot wait."""
        self.urgent = bool(self._unmarked)

    @property
    def overdue(self) -> bool:
        """Whether a ping is due although another is in flight, or what waits could wait."""
        return self.weight >= PING_EVERY_MESSAGES * (1 if self.urgent else PATIENT)

    @property
    def weight(self) -> int:
        """How much was added that no ping would confirm yet, in messages, by their number or their bytes."""
        return max(len(self._unmarked), self._unmarked_bytes * PING_EVERY_MESSAGES // PING_EVERY_BYTES)

    @property
    def due(self) -> bool:
        """Whether something that cannot wait has no ping that would confirm it, and none is in flight."""
        return self.urgent and not self._marks

    @property
    def waits_since(self) -> float | None:
        """Monotonic second since which a ping waits for its pong; None when none does."""
        return self._waits_since if self._marks else None

    def ping(self, end: int, now: float) -> bytes:
        """The next ping, to be written right behind `end` bytes; it would confirm all that was added."""
        self._counter += 1
        if not self._marks:
            self._waits_since = now
        self._marks.append((self._counter, end, self._unmarked, self._unmarked_bytes))
        self._unmarked = ()
        self._unmarked_bytes = 0
        self.urgent = False
        self.ping_by = 0.0
        return ping_frame(b"%d" % self._counter)

    def pong(self, payload: bytes, taken: int, now: float) -> tuple[Items, int] | None:
        """A pong came: what it confirms, and its bytes together, or None if its counter is unknown.

        It confirms all that was written before its ping, also what belongs to earlier pings: a client may
        answer only the latest. Forged, late and repeated counters confirm nothing, nor does the counter of
        a ping that the kernel, with `taken` bytes, has not taken yet: it can only be guessed.
        """
        counter = _counter(payload)
        if counter is None or not self._is_out(counter, taken):
            return None
        items: Items = ()
        size = 0
        while self._marks and self._marks[0][0] <= counter:
            _, _, more, more_bytes = self._marks.pop(0)
            items = (*items, *more) if items else more
            size += more_bytes
        self._waits_since = now
        return items, size

    def _is_out(self, counter: int, taken: int) -> bool:
        if not self._marks or not self._marks[0][0] <= counter <= self._counter:
            return False
        # Counters of marks have no gaps: they are made one by one, and taken from the front.
        return self._marks[counter - self._marks[0][0]][1] <= taken


def _counter(payload: bytes) -> int | None:
    if not payload.isdigit() or len(payload) > 15:
        return None
    return int(payload)
