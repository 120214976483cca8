"""A connection: one open WebSocket, what was sent on it, and what of that is confirmed.

It is kept for every idle user, so it is slotted and small, and it knows neither sockets nor Redis:
`Transport` is the seam to the one, `session` tells it about the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Protocol

from pushserver.core.categories import Categories
from pushserver.core.close_codes import CloseCode
from pushserver.core.frames import ping_frame
from pushserver.core.message import Message
from pushserver.exposure.event import Source, connection_part
from pushserver.stores.inbox import Missed

__all__ = ["Connection", "Sent", "State", "Transport", "Window"]

PING_EVERY_MESSAGES = 32
PING_EVERY_BYTES = 64 * 1024


class Transport(Protocol):
    """What a connection needs of its socket. No method blocks or raises for what the peer does."""

    progressed_at: float
    """Monotonic second of the last byte that was received, or taken by the kernel out of a backlog."""

    def write(self, data: bytes) -> None:
        """Send whole frames, in order; what the kernel does not take now is kept and sent later."""

    def close(self, code: int, reason: str) -> None:
        """Send a close frame after what was written, and end; at most a few seconds later, then cut."""

    def abort(self) -> None:
        """End at once, without a goodbye."""

    @property
    def buffered(self) -> int:
        """Bytes the kernel has not taken yet."""


class State(Enum):
    """Where a connection is."""

    CATCHING_UP = "catching up"
    LIVE = "live"
    CLOSED = "closed"


class Window(Protocol):
    """What may be unconfirmed on one connection at a time."""

    @property
    def messages(self) -> int:
        """Messages at most."""

    @property
    def bytes(self) -> int:
        """Bytes of frames at most."""


class Sent:
    """A message that was written to a connection and is not settled yet."""

    __slots__ = ("confirmed", "id", "pushed_at", "queued_at", "size", "source")

    def __init__(self, message: Message, source: Source, pushed_at: int) -> None:
        self.id = message.id
        self.size = len(message.frame)
        self.queued_at = message.queued_at
        self.source: Source = source
        self.pushed_at = pushed_at
        self.confirmed = False


class Connection:
    """One open WebSocket of a user.

    `sent` holds every message from its push until its removal from the inbox was answered, so that no
    page that was read meanwhile brings it twice.
    """

    __slots__ = (
        "_marks",
        "_ping_counter",
        "_pinged_at",
        "_room",
        "_settled_meanwhile",
        "_unmarked",
        "_unmarked_bytes",
        "_window",
        "ack_mode",
        "bad_frames",
        "categories",
        "client_ip",
        "due_tick",
        "expires_at",
        "exposure_part",
        "frames_counted",
        "frames_second",
        "id",
        "opened",
        "reading",
        "sent",
        "state",
        "suspect",
        "transport",
        "unconfirmed",
        "unconfirmed_bytes",
        "upto",
        "user",
        "waits_since",
        "wants_look",
    )

    def __init__(
        self,
        *,
        connection_id: str,
        user: str,
        categories: Categories,
        client_ip: str,
        expires_at: float,
        transport: Transport,
        window: Window,
        ack_mode: bool,
    ) -> None:
        self.id = connection_id
        self.user = user
        self.categories = categories
        self.client_ip = client_ip
        self.exposure_part = connection_part(user, connection_id, client_ip, categories)
        """User, connection, address and categories as an exposure repeats them, encoded once."""
        self.expires_at = expires_at
        self.transport = transport
        self.ack_mode = ack_mode
        """Only `ack` frames confirm messages; a pong does not."""
        self.state = State.CATCHING_UP
        self.opened = False
        """The `live` frame was sent."""
        self.upto = 0
        """Sequence of the inbox up to which this connection has seen it."""
        self.suspect = False
        """A content is blamed: one message at a time until all are confirmed."""
        self.sent: dict[str, Sent] = {}
        self.reading = False
        """An inbox read is on its way: what settles meanwhile is not forgotten before it arrived."""
        self.wants_look = False
        """The inbox changed while it was being read: read it once more."""
        self.unconfirmed = 0
        self.unconfirmed_bytes = 0
        self.waits_since = 0.0
        """Monotonic second since which something waits for a confirm; moved on by each confirm."""
        self.bad_frames = 0
        self.frames_second = 0
        self.frames_counted = 0
        """Frames that confirmed nothing, in the monotonic second `frames_second`."""
        self.due_tick = 0
        self._window = window
        self._ping_counter = 0
        self._pinged_at = 0.0
        self._marks: list[tuple[int, Sequence[Sent | Missed]]] = []
        """Pings in flight, oldest first, each with what was written between it and the one before."""
        self._unmarked: list[Sent | Missed] = []
        self._unmarked_bytes = 0
        self._settled_meanwhile: list[str] = []
        self._room: asyncio.Future[None] | None = None

    def is_open(self) -> bool:
        """Whether the connection is not closed. A method, for it changes while somebody waits."""
        return self.state is not State.CLOSED

    def change_categories(self, categories: Categories) -> None:
        """What the Manager calls when it moves the connection; exposures tell the new ones from now on."""
        self.categories = categories
        self.exposure_part = connection_part(self.user, self.id, self.client_ip, categories)

    # -- what may be sent

    def room(self) -> int:
        """How many more messages the window lets out; their bytes are looked at one by one."""
        if self.unconfirmed_bytes >= self._window.bytes:
            return 0
        return max(0, (1 if self.suspect else self._window.messages) - self.unconfirmed)

    def fits(self, size: int) -> bool:
        """Whether a frame fits the window's bytes; one always does when nothing is unconfirmed."""
        return self.unconfirmed == 0 or self.unconfirmed_bytes + size <= self._window.bytes

    async def wait_for_room(self, size: int) -> None:
        """Return when a frame of `size` bytes may be sent, or the connection closed."""
        while self.is_open() and (self.room() == 0 or not self.fits(size)):
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    async def wait_for_confirms(self) -> None:
        """Return when nothing is unconfirmed any more, or the connection closed."""
        while self.is_open() and self.unconfirmed:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def _wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    # -- sending

    def push(self, messages: Sequence[Message], source: Source, now_ms: int, now: float) -> int:
        """Write as many of `messages` as the window lets out, in one write; answers how many.

        Messages that are in `sent` already must not be among them.
        """
        out: list[bytes] = []
        pushed = 0
        for message in messages[: self.room()]:
            if not self.fits(len(message.frame)):
                break
            self._remember(Sent(message, source, now_ms), now)
            out.append(message.frame)
            pushed += 1
            if len(self._unmarked) >= PING_EVERY_MESSAGES or self._unmarked_bytes >= PING_EVERY_BYTES:
                out.append(self._mark(now))
        if self._unmarked and not self._marks:
            out.append(self._mark(now))
        if out:
            self.transport.write(b"".join(out))
        return pushed

    def _remember(self, sent: Sent, now: float) -> None:
        self.sent[sent.id] = sent
        if self.unconfirmed == 0:
            self.waits_since = now
        self.unconfirmed += 1
        self.unconfirmed_bytes += sent.size
        self._unmarked.append(sent)
        self._unmarked_bytes += sent.size

    def tell(self, frame: bytes, missed: Missed, now: float) -> None:
        """Write the `live` frame; what it says was missed counts as told when the next pong proves it."""
        if missed:
            self._unmarked.append(missed)
            frame += self._mark(now)
        self.transport.write(frame)

    def ping(self, now: float) -> None:
        """Keepalive: a ping through the same buffer as the frames, from the same sequence."""
        self.transport.write(self._mark(now))

    def _mark(self, now: float) -> bytes:
        self._ping_counter += 1
        if not self._marks:
            self._pinged_at = now
        self._marks.append((self._ping_counter, self._unmarked))
        self._unmarked = []
        self._unmarked_bytes = 0
        return ping_frame(b"%d" % self._ping_counter)

    # -- confirming

    def pong(self, payload: bytes, now: float) -> tuple[list[Sent], list[Missed]] | None:
        """A pong came (RFC 6455 section 5.5.3): what it confirms, or None if its counter is unknown.

        It confirms all that was written before its ping, also what belongs to earlier pings: a client may
        answer only the latest. Forged, late and repeated counters confirm nothing.
        """
        counter = _counter(payload)
        if counter is None or not self._marks or not self._marks[0][0] <= counter <= self._ping_counter:
            return None
        items: list[Sent | Missed] = []
        while self._marks and self._marks[0][0] <= counter:
            items.extend(self._marks.pop(0)[1])
        self._pinged_at = now
        if self._unmarked and not self._marks:
            self.ping(now)
        told = [item for item in items if isinstance(item, Missed)]
        if self.ack_mode:
            return [], told
        return self._confirm((item for item in items if isinstance(item, Sent)), now), told

    def ack(self, ids: Iterable[object], now: float) -> list[Sent]:
        """An `ack` frame came: the messages it confirms. Ids that were not sent here are left out."""
        known = (self.sent.get(message_id) for message_id in ids if isinstance(message_id, str))
        return self._confirm((sent for sent in known if sent is not None), now)

    def _confirm(self, items: Iterable[Sent], now: float) -> list[Sent]:
        confirmed = []
        for sent in items:
            if not sent.confirmed:
                sent.confirmed = True
                self.unconfirmed -= 1
                self.unconfirmed_bytes -= sent.size
                confirmed.append(sent)
        if confirmed:
            self.waits_since = now
            self._wake()
        return confirmed

    def alone_in_flight(self) -> str | None:
        """The id of the one unconfirmed message, if there is just one."""
        if self.unconfirmed != 1:
            return None
        return next(sent.id for sent in self.sent.values() if not sent.confirmed)

    # -- settling

    def settled(self, ids: Iterable[str]) -> None:
        """The removal of `ids` from the inbox was answered: forget them, if no older read is out."""
        if self.reading:
            self._settled_meanwhile.extend(ids)
            return
        for message_id in ids:
            self.sent.pop(message_id, None)

    def read_begins(self) -> None:
        """An inbox read is about to be sent."""
        self.reading = True
        self.wants_look = False

    def read_arrived(self, ids: Sequence[str]) -> list[str]:
        """The read arrived: which of its ids are news here. Settled ones are forgotten afterwards."""
        news = [message_id for message_id in dict.fromkeys(ids) if message_id not in self.sent]
        self.read_over()
        return news

    def read_over(self) -> None:
        """The read arrived or failed: nothing older is out any more."""
        self.reading = False
        settled, self._settled_meanwhile = self._settled_meanwhile, []
        self.settled(settled)

    # -- the end

    def stalled_since(self) -> float | None:
        """Monotonic second since which a ping waits for its pong; None when none does."""
        return self._pinged_at if self._marks else None

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Say goodbye. What else ends is done when the transport tells that it closed."""
        self.transport.close(code, reason)

    def closed(self) -> None:
        """The transport is gone: whoever waits on this connection is woken."""
        self.state = State.CLOSED
        self._wake()


def _counter(payload: bytes) -> int | None:
    if not payload.isdigit() or len(payload) > 15:
        return None
    return int(payload)
