"""A connection: one open WebSocket, what was sent on it, and what of that is confirmed.

It is kept for every idle user, so it is slotted and small, and it knows neither sockets nor Redis:
`Transport` is the seam to the one (and lends it a descriptor at most), `session` tells it about the other.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import islice

from pushserver.core.categories import Categories
from pushserver.core.close_codes import CloseCode
from pushserver.core.message import Message
from pushserver.delivery.ledger import Ledger
from pushserver.delivery.live_batch import NOTED_BYTES, NOTED_WEIGHT, Entry, LiveBatch, Placed, as_one
from pushserver.delivery.sent import INBOX, LIVE_ONLY, Sent
from pushserver.delivery.transport import Transport, Window
from pushserver.exposure.event import Source, connection_part
from pushserver.stores.inbox import Missed

__all__ = ["Connection", "State"]

OWED_MAX = 1000
"""Messages that a slow connection keeps in mind, of those that others of its user may settle meanwhile."""

RIDE_SHARE = 0.25
"""A ping that is due within this share of `log_confirm_s` goes out in the write of the next message."""


class State(Enum):
    """Where a connection is."""

    CATCHING_UP = "catching up"
    LIVE = "live"
    CLOSED = "closed"


class _Noting:
    """What a slice looks at of each connection (`fan_out`).

    The slots of a base come first, so these share a cache line with the reference count.
    """

    __slots__ = ("descriptor", "noted", "notes_until")


class Connection(_Noting):
    """One open WebSocket of a user.

    What was sent stands in its ledger. Only what comes live, to many at once, is just noted at first
    (`fan_out`) and written down later, many at a time: the books of one connection are a dozen objects that
    no cache holds, and to touch them for each of 10 000 connections costs a sixth of a broadcast.
    """

    __slots__ = (
        "_exposure_part",
        "_ledger",
        "_room",
        "_window",
        "ack_mode",
        "bad_frames",
        "categories",
        "client_ip",
        "cursor_at",
        "deflates_up_to",
        "due_tick",
        "expires_at",
        "frames_counted",
        "frames_second",
        "id",
        "opened",
        "owed",
        "reminded_at",
        "state",
        "suspect",
        "transport",
        "upto",
        "user",
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
        log_at: int = 0,
        deflates_up_to: int = 0,
    ) -> None:
        self.id = connection_id
        self.user = user
        self.categories = categories
        self.client_ip = client_ip
        self._exposure_part = b""
        self.expires_at = expires_at
        self.transport = transport
        self.ack_mode = ack_mode
        """Only `ack` frames confirm messages; a pong does not."""
        self.deflates_up_to = deflates_up_to
        """Bytes of frames that go out compressed, at most; 0: no compression was negotiated."""
        self.state = State.CATCHING_UP
        self.opened = False
        """The `live` frame was sent."""
        self.upto = -1
        """Sequence of the inbox up to which this connection has seen it; -1 until it was first read."""
        self.owed: dict[str, int] | None = None
        """Messages that were hinted at and could not be pushed at once -> their sequence."""
        self.cursor_at = log_at
        """Where the user's cursor stands, as far as this connection moved it."""
        self.suspect = False
        """A content is blamed: one message at a time until all are confirmed."""
        self.wants_look = False
        """The inbox changed while it was being read: read it once more."""
        self.bad_frames = 0
        self.frames_second = 0
        self.frames_counted = 0
        """Frames that confirmed nothing, in the monotonic second `frames_second`."""
        self.due_tick = 0
        self.reminded_at = 0.0
        """Monotonic second of the reminder that counts; 0 if none does."""
        self._window = window
        self._ledger = Ledger(window, ack_mode=ack_mode, log_at=log_at)
        self.noted: list[Entry | None] = []
        """Written, not in the ledger yet; only while it is live and nothing from elsewhere is unsettled.

        As long as all that has no ping behind it yet weighs: None fills the places.
        """
        self.notes_until = 0.0
        """Monotonic second from which a ping goes out with the next message; 0 while nothing is noted."""
        self.descriptor = -1
        """While something is noted: what it is written to, or -1 if it goes by the transport."""
        self._room: asyncio.Future[None] | None = None

    def is_open(self) -> bool:
        """Whether the connection is not closed. A method, for it changes while somebody waits."""
        return self.state is not State.CLOSED

    def change_categories(self, categories: Categories) -> None:
        """What the Manager calls when it moves the connection; exposures tell the new ones from now on."""
        self.categories = categories
        self._exposure_part = b""

    @property
    def exposure_part(self) -> bytes:
        """User, connection, address and categories as an exposure repeats them; encoded once it is needed."""
        part = self._exposure_part
        if not part:
            part = self._exposure_part = connection_part(self.user, self.id, self.client_ip, self.categories)
        return part

    # -- the books

    @property
    def ledger(self) -> Ledger:
        """The books, with all that was noted written down."""
        if self.noted:
            self.write_down()
        return self._ledger

    def write_down(self) -> None:
        """Write down what was noted; the next message is looked at by itself."""
        noted = [entry for entry in self.noted if entry is not None]
        descriptor, self.descriptor, self.notes_until = self.descriptor, -1, 0.0
        self.noted.clear()
        if not noted:
            return
        # Since it was noted no other message was sent, no ping, and none was planned.
        entry = as_one(tuple(noted)) if len(noted) > 1 else noted[0]
        if descriptor >= 0:
            self.transport.wrote(entry.size)
        self._ledger.add_live(entry, self._ledger.receipts.ping_by)

    # -- what may be sent

    def room(self) -> int:
        """How many more messages the window lets out; their bytes are looked at one by one."""
        return self.ledger.room(1 if self.suspect else self._window.messages)

    async def wait_for_room(self, size: int) -> None:
        """Return when a frame of `size` bytes may be sent, or the connection closed."""
        while self.is_open() and (self.room() == 0 or not self.ledger.fits(size)):
            await self._next_confirm()

    async def wait_for_confirms(self) -> None:
        """Return when nothing is unconfirmed any more, or the connection closed."""
        while self.is_open() and self.ledger.unconfirmed:
            await self._next_confirm()

    async def _next_confirm(self) -> None:
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        # Several may wait for it, so one that is cancelled must not cancel it.
        await asyncio.shield(self._room)

    def _wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    # -- sending

    def push(self, messages: Sequence[Message], source: Source, now_ms: int, now: float) -> int:
        """Write as many of `messages` from the inbox as the window lets out, in one write; answers how many.

        Messages that the ledger has as sent must not be among them.
        """
        return self._push([(INBOX, message) for message in messages], source, now_ms, now, 0.0)

    def push_log(self, entries: Sequence[Placed], source: Source, now_ms: int, now: float) -> int:
        """As `push`, from the log, with their places; those up to the ledger's must not be among them.

        The confirm of one that comes live, to many at once, can wait for `log_confirm_s`.
        """
        ping_by = self._ping_by(now) if source == "live" else 0.0
        pushed = self._push(entries, source, now_ms, now, ping_by)
        if pushed:
            self.ledger.log_at = entries[pushed - 1][0]
        return pushed

    def begin_to_note(self, batch: LiveBatch, now: float) -> float | None:
        """Be ready to have it, and what comes behind it, written to `descriptor` and just noted (`fan_out`).

        None if it must not be. Else as `push_live`.
        """
        receipts, ride_s = self.ledger.receipts, self._window.log_confirm_s * RIDE_SHARE
        planned = receipts.ping_by
        ping_by = planned or self._ping_by(now)
        # In this order: most come here for their ping is about to ride.
        if now + ride_s >= ping_by or not self._may_have(batch) or not self._may_note(batch):
            return None
        receipts.ping_by = ping_by
        self.notes_until = ping_by - ride_s
        self.noted.extend([None] * receipts.weight)
        self.descriptor = -1 if self.deflates_up_to else self.transport.descriptor
        return 0.0 if planned else ping_by

    def push_live(self, batch: LiveBatch, now: float) -> float | None:
        """Write what has just come to the log, to this connection as to many others: nothing is made for it.

        None if this one needs a closer look (`push_log`): it is not live, had some of it, confirms by `ack`,
        or its window has no room for all of it. Else the monotonic second by which a ping is to go out, if
        none was planned before; 0 if nothing is to be planned.
        """
        ledger = self.ledger
        if not self._may_have(batch):
            return None
        receipts, ride_s = ledger.receipts, self._window.log_confirm_s * RIDE_SHARE
        planned = receipts.ping_by
        ping_by = planned or self._ping_by(now)
        frames = batch.to(self.deflates_up_to)
        ledger.add_live(batch.entry, ping_by)
        if receipts.rides(now + ride_s):
            frames += receipts.ping(self.transport.written + len(frames), now)
            ping_by = 0.0
        self.transport.write(frames)
        return 0.0 if planned else ping_by

    def _may_have(self, batch: LiveBatch) -> bool:
        """Whether it may be given all of it as it is."""
        plain = self.state is State.LIVE and not self.ack_mode and not self.suspect
        return plain and self._ledger.has_room_for_all(batch.entry)

    def _may_note(self, batch: LiveBatch) -> bool:
        """Whether none of what may be noted need be looked at by itself: the window lets all of it out,
        no ping is due for it, and nothing from elsewhere is out, which might have an id of what comes.
        """
        ledger = self._ledger
        return (
            ledger.receipts.weight + batch.weight < NOTED_WEIGHT
            and not ledger.receipts.urgent
            and not ledger.from_elsewhere
            and ledger.has_room_for(NOTED_WEIGHT, NOTED_BYTES)
        )

    def push_live_only(self, message: Message, now_ms: int, now: float) -> bool:
        """Write a message that is stored nowhere, if the connection is live, has room and did not have it."""
        if self.state is not State.LIVE or message.id in self.ledger.sent:
            return False
        return bool(self._push([(LIVE_ONLY, message)], "live", now_ms, now, self._ping_by(now)))

    def _ping_by(self, now: float) -> float:
        wait_s = self._window.log_confirm_s
        if wait_s >= self._window.ping_interval_s:
            # The next keepalive comes sooner, and these are spread.
            return now + wait_s
        # Spread, so that the receipts of a broadcast do not all come at once. No secret hangs on it.
        return now + wait_s * random.uniform(0.5, 1.0)  # noqa: S311

    def _push(
        self, messages: Sequence[Placed], source: Source, now_ms: int, now: float, ping_by: float
    ) -> int:
        ledger, receipts = self.ledger, self._ledger.receipts
        out: list[bytes] = []
        end, pushed = self.transport.written, 0
        # Who chokes on what is compressed gets it plain before the content is blamed for good.
        deflates_up_to = 0 if self.suspect else self.deflates_up_to
        for position, message in messages[: self.room()]:
            if message.id in ledger.sent:
                # Another program used the id of a message in the inbox for one in the log.
                pushed += 1
                continue
            frame = message.frame
            # By its plain size, so that no more is compressed at once than a window holds.
            if not ledger.fits(len(frame)):
                break
            if deflates_up_to:
                frame = message.deflated(deflates_up_to)
            end += len(frame)
            ledger.add(Sent(message, position, source, now_ms), end, now, ping_by)
            out.append(frame)
            pushed += 1
            if receipts.overdue:
                out.append(receipts.ping(end, now))
                end += len(out[-1])
        if pushed < len(messages):
            receipts.hurry()
        if receipts.due:
            out.append(receipts.ping(end, now))
        if out:
            self.transport.write(b"".join(out))
        return pushed

    def tell(self, frame: bytes, missed: Missed, now: float) -> None:
        """Write the `live` frame; what it says was missed counts as told when the next pong proves it."""
        if missed:
            receipts = self.ledger.receipts
            receipts.tell(missed)
            frame += receipts.ping(self.transport.written + len(frame), now)
        self.transport.write(frame)

    def ping(self, now: float) -> None:
        """Keepalive: a ping through the same buffer as the frames, from the same sequence."""
        self.transport.write(self.ledger.receipts.ping(self.transport.written, now))

    # -- confirming

    def pong(self, payload: bytes, now: float) -> tuple[Sequence[Sent], Missed | None] | None:
        """A pong came: the messages it confirms and what it proves to have been told; None if unknown."""
        # No ping is behind what is noted, so nothing of that is confirmed.
        ledger, receipts = self._ledger, self._ledger.receipts
        items = ledger.pong(payload, self._taken, now)
        if items is None:
            return None
        if receipts.due or 0.0 < receipts.ping_by <= now:
            self.ping(now)
        if items:
            self._wake()
        return items, receipts.proven()

    @property
    def ping_by(self) -> float:
        """Monotonic second by which a ping is to go out for what can wait; 0 if nothing waits for one."""
        return self._ledger.receipts.ping_by

    @property
    def _taken(self) -> int:
        return self.transport.written - self.transport.buffered

    def ack(self, ids: Iterable[object], now: float) -> list[Sent]:
        """An `ack` frame came: the messages it confirms. Ids that were not sent here are left out."""
        confirmed = self.ledger.ack(ids, self._taken, now)
        if confirmed:
            self._wake()
        return confirmed

    def alone_in_flight(self) -> Sent | None:
        """The one unconfirmed message, if there is just one."""
        ledger = self.ledger
        return next(ledger.in_flight()) if ledger.unconfirmed == 1 else None

    def is_confirmed(self, sent: Sent) -> bool:
        """Whether the client confirmed what was sent here; looks at all that it did not."""
        return all(one is not sent for one in self.ledger.in_flight())

    # -- what others may have had before

    def owe(self, hints: Iterable[tuple[int, str]]) -> int:
        """Keep these in mind, each with its sequence: a quicker connection of the user may have them settled,
        and out of the inbox, before it is read here. How many had to be forgotten for them.
        """
        owed, sent = self.owed or {}, self.ledger.sent
        for seq, message_id in hints:
            if seq > self.upto and message_id not in sent:
                owed.setdefault(message_id, seq)
        excess = max(0, len(owed) - OWED_MAX)
        for message_id in list(islice(owed, excess)):
            del owed[message_id]
        self.owed = owed or None
        return excess

    def take_owed(self, seq: int) -> dict[str, int]:
        """What came since `upto` and up to `seq`, at which the whole inbox was read; the later stays owed."""
        owed, self.owed = self.owed or {}, None
        self.owe((later, message_id) for message_id, later in owed.items() if later > seq)
        sent = self.ledger.sent
        return {one: at for one, at in owed.items() if self.upto < at <= seq and one not in sent}

    # -- settling

    @property
    def settling(self) -> bool:
        """Whether something was confirmed here and is not settled yet."""
        ledger = self.ledger
        return len(ledger.sent) > ledger.unconfirmed

    def settled(self, ids: Iterable[str]) -> None:
        """The removal of `ids` from the inbox was answered: forget them, if no older read is out."""
        self._ledger.settled(ids)
        self._wake()

    def forget(self, ids: Iterable[str]) -> None:
        """Nothing will bring these again: they came from no inbox and are exposed, or they are settled."""
        self._ledger.forget(ids)
        self._wake()

    def cursor(self, offered: int) -> int:
        """Place in the log up to which everything was settled here.

        `offered` is the place up to which every live connection was offered everything.
        """
        ledger = self._ledger
        first = ledger.first_of_log()
        if first is None and self.noted:
            first = next((entry.first for entry in self.noted if entry is not None), None)
        if first is not None:
            return first - 1
        return max(ledger.log_at, offered) if self.state is State.LIVE else ledger.log_at

    def read_begins(self) -> None:
        """An inbox read is about to be sent."""
        self.ledger.read_begins()
        self.wants_look = False

    def read_arrived(self, ids: Sequence[str]) -> list[str]:
        """The read arrived: which of its ids are news here. Settled ones are forgotten afterwards."""
        sent = self.ledger.sent
        news = [message_id for message_id in dict.fromkeys(ids) if message_id not in sent]
        self.read_over()
        return news

    def read_over(self) -> None:
        """The read arrived or failed: nothing older is out any more."""
        self.ledger.read_over()
        self._wake()

    # -- the states behind live

    def fall_behind(self, offered: int) -> None:
        """From live to catching up: what came while it was live, up to `offered`, it was given."""
        self._leave_live(State.CATCHING_UP)
        self._ledger.log_at = max(self._ledger.log_at, offered)

    def _leave_live(self, state: State) -> None:
        # First of all written down: to who has something noted more is pushed without a look at the state.
        try:
            self.write_down()
        finally:
            self.state = state

    # -- the end

    def stalled_since(self) -> float | None:
        """Monotonic second since which a ping waits for its pong; None when none does."""
        return self._ledger.receipts.waits_since

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Say goodbye. What else ends is done when the transport tells that it closed."""
        self.transport.close(code, reason)

    def closed(self) -> None:
        """The transport is gone: whoever waits on this connection is woken."""
        self._leave_live(State.CLOSED)
        self._wake()
