"""Judges what was published to categories and to everyone: the part of the checker that knows the log."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tests.system.history import History, Line

__all__ = ["log_faults"]


def log_faults(history: History) -> Iterator[str]:
    """Every breach of a promise about broadcasts, told in a line."""
    received = {(line.user, message_id) for line in history.lines for message_id in line.ids}
    exposed = {(one.user, one.message_id) for one in history.exposed}
    lines = history.by_user()
    for user in history.categories:
        first = min((line.welcomed_at for line in lines[user]), default=math.inf)
        for message_id in history.owed(user, first):
            if _is_settled(history, user, message_id):
                if (user, message_id) not in received:
                    yield f"{message_id} is lost for {user}, whom it means"
                elif (user, message_id) not in exposed:
                    yield f"{message_id} of {user} is behind the cursor and has no exposure"
    for line in history.lines:
        yield from _left_out(history, line)
        yield from _out_of_order(history, line)
        if line.gap:
            yield f"{line.user} was told of a gap, and nothing was trimmed"


def _is_settled(history: History, user: str, message_id: str) -> bool:
    """Nothing will bring it again: it is behind the cursor, or not in the log at all."""
    place = history.log.get(message_id)
    return place is None or place <= history.cursors.get(user, 0)


def _left_out(history: History, line: Line) -> Iterator[str]:
    """P1: it reaches every matching connection that is open."""
    if line.quiet:
        there = set(line.ids)
        for message_id in history.owed(line.user, line.welcomed_at):
            if message_id not in there:
                yield f"{message_id} did not reach the connection {line.id} of {line.user}"


def _out_of_order(history: History, line: Line) -> Iterator[str]:
    """P3: in log order."""
    last, before = 0, ""
    for message_id in line.ids:
        place = history.log.get(message_id, last)
        if place < last:
            yield f"{message_id} came to {line.user} after {before}, against the order of the log"
        else:
            last, before = place, message_id
