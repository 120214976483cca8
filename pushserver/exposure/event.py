"""Exposure events: the record that messages reached users, as JSON that is joined, not dumped.

An event carries the exposures of one message on one pod in one batch (design: exposure events). What a
connection always repeats is encoded once, when it connects, so an exposure costs one short f-string.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID, uuid5

from pushserver.core.categories import Categories
from pushserver.core.jsontext import dump

__all__ = ["Confirmed", "Event", "Proof", "Pushed", "Source", "build_events", "connection_part", "event_id"]

Source = Literal["live", "offline", "log"]
"""`offline`: from the inbox while catching up; `live`: as it arrived; `log`: from the log's past."""

Proof = Literal["pong", "ack"]

MAX_EXPOSURES = 1000
"""Exposures in an event at most."""

MAX_BYTES = 1024 * 1024
"""Bytes of exposures in an event at most: Pub/Sub takes 10 MB in a message.

One exposure is always far below that: its categories are bounded where they are parsed.
"""

_NAMESPACE = UUID("e2a1c565-d1a0-543b-8fce-ff7cd947604b")
"""UUIDv5 of the URL `urn:pushserver:exposure-event`. Another one would make every stored row anew."""

_HEAD = re.compile(rb'\{"schema":1,"message_id":"([A-Za-z0-9._:-]{1,64})","pod":"([-a-z0-9.]{1,63})",')


class Pushed(Protocol):
    """A message as it was pushed. Times are Redis' time in milliseconds."""

    @property
    def id(self) -> str:
        """Of the message."""

    @property
    def source(self) -> Source:
        """What brought it."""

    @property
    def queued_at(self) -> int:
        """When it was published."""

    @property
    def pushed_at(self) -> int:
        """When it was written."""


# Not frozen: a frozen one costs three times as much to make, and one is made for each confirm.
@dataclass(slots=True)
class Confirmed:
    """Messages that one connection confirmed together: each of them is an exposure."""

    connection: bytes
    """The connection's part of the JSON, from `connection_part`."""
    messages: Sequence[Pushed]
    confirmed_at: int
    """Redis' time in milliseconds."""
    proof: Proof


@dataclass(slots=True)
class Event:
    """What one Pub/Sub message or one stream entry carries: `data` is its JSON in UTF-8."""

    message_id: str
    pod: str
    count: int
    """Exposures in it."""
    data: bytes

    @classmethod
    def from_data(cls, data: bytes) -> Event:
        """An event from its JSON alone, as it lies in the spool, without parsing all of it.

        What `build_events` did not write (a newer pod's schema) is passed on as it is, without attributes:
        who stores events reads the data and judges it.
        """
        head = _HEAD.match(data)
        if head is None:
            return cls("", "", 0, data)
        # Quotes within a JSON text are escaped, so no username or category can hold this key.
        count = data.count(b'"confirmed_at":')
        return cls(head[1].decode(), head[2].decode(), count, data)

    @property
    def attributes(self) -> dict[str, str]:
        """The attributes of the Pub/Sub message; none when the data was not recognised."""
        if not self.message_id:
            return {}
        return {"schema": "1", "message_id": self.message_id, "pod": self.pod, "count": str(self.count)}


def connection_part(username: str, connection_id: str, client_ip: str, categories: Categories) -> bytes:
    """The JSON that opens each exposure of a connection, to be kept with it; closed by `build_events`."""
    known = {"username": username, "connection": connection_id, "client_ip": client_ip}
    return dump({**known, "categories": categories})[:-1].encode()


def build_events(confirmed: Iterable[Confirmed], pod: str) -> list[Event]:
    """Events of at most 1000 exposures of one message each, in the order the messages first occur.

    What many connections confirmed alike (the same objects, in the same order) is put together once for all
    of them: of a broadcast an exposure costs little more than the copying of its bytes.
    """
    alike: defaultdict[tuple[Pushed, ...], list[Confirmed]] = defaultdict(list)
    for some in confirmed:
        alike[tuple(some.messages)].append(some)
    groups: defaultdict[tuple[str, str, int], list[_Part]] = defaultdict(list)
    for messages, shown in alike.items():
        for pieces, size in _pieces(shown):
            for one in messages:
                groups[one.id, one.source, one.queued_at].append((b"%d" % one.pushed_at, pieces, size))
    return [
        _event(message_id, pod, source, queued_at, some)
        for (message_id, source, queued_at), parts in groups.items()
        for some in ([parts] if len(parts) == 1 else _in_events(parts))
    ]


_Part = tuple[bytes, list[bytes], int]
"""Exposures of one message that was pushed to all at this time: pieces and their size, from `_pieces`."""


def _pieces(shown: Sequence[Confirmed]) -> list[tuple[list[bytes], int]]:
    """The pieces of these exposures and their size, in parts that fit into an event each."""
    found: list[tuple[list[bytes], int]] = []
    pieces: list[bytes] = []
    size, tail, proofs = 0, b"", _PROOFS
    for some in shown:
        piece = b'%b%b,"pushed_at":' % (tail, some.connection)
        if pieces and (len(pieces) == MAX_EXPOSURES or size + len(piece) > MAX_BYTES):
            found.append(([*pieces, tail[:-1]], size))
            pieces, size, piece = [], 0, piece[len(tail) :]
        pieces.append(piece)
        size += len(piece)
        tail = b',"confirmed_at":%d,"proof":"%b"},' % (some.confirmed_at, proofs[some.proof])
    pieces.append(tail[:-1])
    found.append((pieces, size))
    return found


_PROOFS: dict[Proof, bytes] = {"pong": b"pong", "ack": b"ack"}


def _in_events(parts: Sequence[_Part]) -> Iterator[Sequence[_Part]]:
    """Cut into what fits into an event each."""
    start = size = exposures = 0
    for end, (_, pieces, grown) in enumerate(parts):
        count = len(pieces) - 1
        if end > start and (exposures + count > MAX_EXPOSURES or size + grown > MAX_BYTES):
            yield parts[start:end]
            start, size, exposures = end, 0, 0
        size += grown
        exposures += count
    yield parts[start:]


def _event(message_id: str, pod: str, source: str, queued_at: int, parts: Sequence[_Part]) -> Event:
    # Ids and pod names need no escaping: core.names lets nothing pass that JSON would escape.
    head = (
        f'{{"schema":1,"message_id":"{message_id}","pod":"{pod}","source":"{source}",'
        f'"queued_at":{queued_at},"exposures":['
    )
    count, texts = -len(parts), []
    for pushed_at, pieces, _ in parts:
        count += len(pieces)
        texts.append(pushed_at.join(pieces))
    return Event(message_id, pod, count, b"%b%b]}" % (head.encode(), b",".join(texts)))


def event_id(message_id: str, username: str, connection_id: str) -> str:
    """Which exposure this is, for whoever stores it: a repeat has the same id, another exposure never.

    UUIDv5 of the three parts as netstrings (`3:m-1,5:alice,2:c9,`), a form in which no two triples are
    alike; lengths are bytes of UTF-8.
    """
    parts = (message_id, username, connection_id)
    return str(uuid5(_NAMESPACE, "".join(f"{len(part.encode())}:{part}," for part in parts)))
