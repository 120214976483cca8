"""What happened in a test, as it was seen from outside the pods: published, received, exposed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Exposed", "History", "Line"]


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
    """(user, id) -> a time at which it was seen to be out of the inbox."""
    waiting: dict[str, list[str]] = field(default_factory=dict)
    """User -> what the inbox holds at the end."""
    exposed: list[Exposed] = field(default_factory=list)

    def line(self, user: str, opened_at: float) -> Line:
        """A connection that is about to be opened."""
        line = Line(user, opened_at)
        self.lines.append(line)
        return line

    def of(self, user: str) -> list[Line]:
        """The user's connections, in the order they were opened."""
        return [line for line in self.lines if line.user == user]

    def look(self, redis: Any, now: float) -> None:
        """Note what is out of its inbox by now."""
        for user, ids in self.accepted.items():
            left = set(redis.lrange(f"ps:inbox:{{{user}}}", 0, -1))
            for message_id in ids:
                if message_id not in left:
                    self.settled.setdefault((user, message_id), now)

    def finish(self, redis: Any) -> None:
        """Note how it ended: what waits, and what the stream `exposures` holds."""
        users = {*self.accepted, *self.attempted}
        self.waiting = {user: redis.lrange(f"ps:inbox:{{{user}}}", 0, -1) for user in users}
        self.expose(entry["data"] for _, entry in redis.xrange("ps:exposures"))

    def expose(self, events: Iterable[str | bytes]) -> None:
        """Note the exposures of events, given as their JSON."""
        for event in map(json.loads, events):
            self.exposed += [
                Exposed(event["message_id"], shown["username"], shown["connection"], shown["proof"])
                for shown in event["exposures"]
            ]
