"""A connection's ledger: what was sent on it and is not settled, and which of that is not confirmed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pushserver.delivery.live_batch import Entry
from pushserver.delivery.receipts import Receipts
from pushserver.delivery.sent import INBOX, Sent
from pushserver.delivery.transport import Window

__all__ = ["Ledger"]

_UNKNOWN: tuple[None, int] = (None, 0)


class Ledger:
    """The books of one connection, and the receipts that move them.

    `sent` holds every message from its push until its removal from the inbox was answered, so that no
    page that was read meanwhile brings it twice.
    """

    __slots__ = (
        "_settled_meanwhile",
        "_unacked",
        "_window",
        "from_elsewhere",
        "log_at",
        "receipts",
        "sent",
        "unconfirmed",
        "unconfirmed_bytes",
        "waits_since",
    )

    def __init__(self, window: Window, *, ack_mode: bool, log_at: int) -> None:
        self._window = window
        self._unacked: dict[str, tuple[Sent, int]] | None = {} if ack_mode else None
        """What no `ack` frame named yet, and where its last byte stands in all that was written."""
        self._settled_meanwhile: list[str] | None = None
        """What settled while an inbox read is on its way, which is not forgotten before it arrived."""
        self.receipts = Receipts()
        self.log_at = log_at
        """Place in the log of the last message that was given to this connection, or passed over for it."""
        self.sent: dict[str, Sent] = {}
        self.from_elsewhere = 0
        """How many of these are not from the log. Of that the tail tells when an id comes again."""
        self.unconfirmed = 0
        self.unconfirmed_bytes = 0
        self.waits_since = 0.0
        """Monotonic second since which something waits for an `ack`; moved on by each confirm."""

    # -- what may be sent

    def room(self, most: int) -> int:
        """How many more may go if `most` may be unconfirmed; their bytes are looked at one by one."""
        if self.unconfirmed_bytes >= self._window.bytes:
            return 0
        # What was confirmed and cannot be settled for now counts as well, or it would grow without bound.
        unsettled = 2 * self._window.messages - len(self.sent)
        return max(0, min(most - self.unconfirmed, unsettled))

    def fits(self, size: int) -> bool:
        """Whether a frame fits the window's bytes; one always does when nothing is unconfirmed."""
        return self.unconfirmed == 0 or self.unconfirmed_bytes + size <= self._window.bytes

    def has_room_for_all(self, entry: Entry) -> bool:
        """Whether the window lets all of it out, and none of it was sent or passed over here before."""
        return (
            self.log_at < entry.first
            and self.has_room_for(entry.count, entry.size)
            and entry.by_id.keys().isdisjoint(self.sent.keys())
        )

    def has_room_for(self, count: int, size: int) -> bool:
        """Whether the window lets out so many messages, of so many bytes together."""
        window = self._window
        return (
            self.unconfirmed + count <= window.messages
            and self.unconfirmed_bytes + size <= window.bytes
            and len(self.sent) + count <= 2 * window.messages
        )

    # -- sending

    def add(self, sent: Sent, end: int, now: float, ping_by: float) -> None:
        """It is about to be written, up to the byte `end`. `ping_by` is as of `Receipts.add`."""
        self.sent[sent.id] = sent
        self.from_elsewhere += sent.position <= INBOX
        if self.unconfirmed == 0:
            self.waits_since = now
        self.unconfirmed += 1
        self.unconfirmed_bytes += sent.size
        if self._unacked is not None:
            # No pong confirms it, and with a client that answers no ping they would pile up.
            self._unacked[sent.id] = (sent, end)
        else:
            self.receipts.add((sent,), sent.size, ping_by)

    def add_live(self, entry: Entry, ping_by: float) -> None:
        """As `add`, of who confirms by pongs, all of it."""
        if entry.by_id.keys().isdisjoint(self.sent.keys()):
            self.sent.update(entry.by_id)
        else:
            # An id that the tail no longer knew: the first keeps its place, which no cursor passes until it
            # is settled.
            for message_id, sent in entry.by_id.items():
                self.sent.setdefault(message_id, sent)
        self.unconfirmed += entry.count
        self.unconfirmed_bytes += entry.size
        self.log_at = entry.last
        self.receipts.add(entry.items, entry.size, ping_by)

    # -- confirming

    def pong(self, payload: bytes, taken: int, now: float) -> Sequence[Sent] | None:
        """A pong came: what it confirms, as `Receipts.pong`."""
        proven = self.receipts.pong(payload, taken, now)
        if proven is None:
            return None
        items, size = proven
        if items:
            self._confirmed(len(items), size, now)
        return items

    def ack(self, ids: Iterable[object], taken: int, now: float) -> list[Sent]:
        """These ids were named: what that confirms, without those that were not sent, or not `taken` yet."""
        unacked = self._unacked or {}
        confirmed = []
        for message_id in ids:
            sent, end = unacked.get(message_id, _UNKNOWN) if isinstance(message_id, str) else _UNKNOWN
            if sent is not None and end <= taken:
                del unacked[sent.id]
                confirmed.append(sent)
        if confirmed:
            self._confirmed(len(confirmed), sum(sent.size for sent in confirmed), now)
            if not unacked:
                # As in `forget`.
                unacked.clear()
        return confirmed

    def _confirmed(self, count: int, size: int, now: float) -> None:
        self.unconfirmed -= count
        self.unconfirmed_bytes -= size
        self.waits_since = now

    def in_flight(self) -> Iterator[Sent]:
        """All that is not confirmed, in order."""
        if self._unacked is not None:
            return (sent for sent, _ in self._unacked.values())
        return self.receipts.unconfirmed()

    # -- settling

    def read_begins(self) -> None:
        """An inbox read is about to be sent."""
        self._settled_meanwhile = []

    def read_over(self) -> None:
        """The read arrived or failed: nothing older is out any more. What settled meanwhile is forgotten."""
        settled, self._settled_meanwhile = self._settled_meanwhile, None
        if settled:
            self.forget(settled)

    def settled(self, ids: Iterable[str]) -> None:
        """The removal of `ids` from the inbox was answered: forget them, once no older read is out."""
        if self._settled_meanwhile is not None:
            self._settled_meanwhile.extend(ids)
        else:
            self.forget(ids)

    def forget(self, ids: Iterable[str]) -> None:
        """Nothing will bring these again: they came from no inbox and are exposed, or they are settled."""
        sent = self.sent
        for message_id in ids:
            one = sent.pop(message_id, None)
            if one is not None and one.position <= INBOX:
                self.from_elsewhere -= 1
        if not sent:
            # An emptied dict keeps the room of what it held, up to 9 kB for a full window.
            sent.clear()

    def first_of_log(self) -> int | None:
        """Place of the first message from the log that is not settled; None if there is none."""
        return next((sent.position for sent in self.sent.values() if sent.position > INBOX), None)
