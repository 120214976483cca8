"""What happened in a test, as it was seen from outside the pods: published, received, exposed."""

from __future__ import annotations

import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pushserver.core.categories import Categories, matches
from pushserver.stores.stream import position_of, stream_id

__all__ = ["Broadcast", "Exposed", "History", "Line"]


@dataclass
class Line:
    """One connection of a user, as its client saw it. Times are monotonic seconds."""

    user: str
    opened_at: float
    """Before the handshake was sent."""
    id: str = ""
    """From the `welcome` frame."""
    received: list[tuple[str, float]] = field(default_factory=list)
    """Ids of messages in the order they came, with the time."""
    welcomed_at: float = math.inf
    """When the `welcome` frame came; never, if it did not."""
    gap: bool = False
    """It was told that the log no longer held all."""
    quiet: bool = False
    """It answered every ping and stayed open until everything was settled: each message has its exposure."""

    @property
    def ids(self) -> list[str]:
        """Without the times."""
        return [message_id for message_id, _ in self.received]


@dataclass(frozen=True)
class Exposed:
    """One exposure of an event."""

    message_id: str
    user: str
    connection: str
    proof: str


@dataclass
class Broadcast:
    """A message to categories or to everyone (no kind). Times are monotonic seconds."""

    target: Categories
    began_at: float
    answered: bool = False


@dataclass
class History:
    """Everything that the checker judges."""

    accepted: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """User -> ids whose publish was answered, in the order they went into the inbox."""
    attempted: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """User -> ids whose publish was not answered: there or not, both are right."""
    excused: set[tuple[str, str]] = field(default_factory=set)
    """(user, id) that were lost with the data of Redis, expired, or evicted by the cap."""
    lines: list[Line] = field(default_factory=list)
    settled: dict[tuple[str, str], float] = field(default_factory=dict)
    """(user, id) -> a time at which it was seen to be out of the inbox, or behind the cursor."""
    waiting: dict[str, list[str]] = field(default_factory=dict)
    """User -> what the inbox holds at the end."""
    exposed: list[Exposed] = field(default_factory=list)
    categories: dict[str, Categories] = field(default_factory=dict)
    """User -> categories; who is not here has none."""
    broadcasts: dict[str, Broadcast] = field(default_factory=dict)
    """Id -> message to categories or to everyone, in the order they were begun."""
    log: dict[str, int] = field(default_factory=dict)
    """Id -> place, of what was seen in the log, in its order."""
    cursors: dict[str, int] = field(default_factory=dict)
    """User -> place of the cursor when it was last seen."""
    counts: Counter[str] = field(default_factory=Counter)
    """What was done, for people to read."""

    def line(self, user: str, opened_at: float) -> Line:
        """A connection that is about to be opened."""
        line = Line(user, opened_at)
        self.lines.append(line)
        return line

    def of(self, user: str) -> list[Line]:
        """The user's connections, in the order they were opened."""
        return [line for line in self.lines if line.user == user]

    def by_user(self) -> defaultdict[str, list[Line]]:
        """Everybody's connections, in the order they were opened."""
        lines: defaultdict[str, list[Line]] = defaultdict(list)
        for line in self.lines:
            lines[line.user].append(line)
        return lines

    def means(self, broadcast: Broadcast, user: str) -> bool:
        """Whether a broadcast is for this user."""
        return matches(broadcast.target, self.categories.get(user, {}))

    def owed(self, user: str, since: float) -> list[str]:
        """The answered broadcasts that mean this user and were begun after `since`."""
        return [
            message_id
            for message_id, one in self.broadcasts.items()
            if one.answered and one.began_at > since and self.means(one, user)
        ]

    # -- what Redis holds

    def look(self, redis: Any) -> None:
        """Note what is out of its inbox, or behind the cursor, by now.

        It may run in a thread, if no user is accepted for the first time meanwhile.
        """
        known = {user: list(ids) for user, ids in self.accepted.items()}
        with redis.pipeline(transaction=False) as pipeline:
            for user in known:
                pipeline.lrange(f"ps:inbox:{{{user}}}", 0, -1)
            inboxes = pipeline.execute()
        now = time.monotonic()
        for (user, ids), left in zip(known.items(), inboxes, strict=True):
            for message_id in set(ids) - set(left):
                self.settled.setdefault((user, message_id), now)
        self._look_at_log(redis)

    def _look_at_log(self, redis: Any) -> None:
        """Cursors first: what they are beyond is in the log that is read afterwards."""
        users = list(self.categories)
        with redis.pipeline(transaction=False) as pipeline:
            for user in users:
                pipeline.get(f"ps:cursor:{{{user}}}")
            held = pipeline.execute()
        now = time.monotonic()
        last = next(reversed(self.log.values()), 0)
        for entry_id, fields in redis.xrange("ps:log", f"({stream_id(last)}"):
            self.log.setdefault(fields.get("id", ""), position_of(entry_id.encode()))
        for user, cursor in zip(users, held, strict=True):
            before = self.cursors.get(user, 0)
            self.cursors[user] = position_of(cursor.encode()) if cursor else 0
            for message_id, place in self.log.items():
                if before < place <= self.cursors[user]:
                    self.settled.setdefault((user, message_id), now)

    def finish(self, redis: Any) -> None:
        """Note how it ended: what waits, and what the stream `exposures` holds."""
        users = {*self.accepted, *self.attempted}
        self.waiting = {user: redis.lrange(f"ps:inbox:{{{user}}}", 0, -1) for user in users}
        self._look_at_log(redis)
        self.expose(entry["data"] for _, entry in redis.xrange("ps:exposures"))

    def expose(self, events: Iterable[str | bytes]) -> None:
        """Note the exposures of events, given as their JSON."""
        for event in map(json.loads, events):
            self.exposed += [
                Exposed(event["message_id"], shown["username"], shown["connection"], shown["proof"])
                for shown in event["exposures"]
            ]
