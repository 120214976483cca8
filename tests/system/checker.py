"""Judges a history by the promises P1 to P4: one place, so that all tests mean the same by "lost"."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from tests.system.checker_log import log_faults
from tests.system.history import History, Line

__all__ = ["check", "faults"]


def check(history: History) -> None:
    """Fail with the first few faults of the history."""
    found = list(faults(history))
    assert not found, f"{len(found)} faults: " + "; ".join(found[:5])


def faults(history: History) -> Iterator[str]:
    """Every breach of a promise, told in a line."""
    yield from _lost(history)
    for line in history.lines:
        yield from _foreign(history, line)
        yield from _twice(line)
        yield from _out_of_order(history, line)
        yield from _back_again(history, line)
    yield from _not_exposed(history)
    yield from _exposed_without_cause(history)
    yield from log_faults(history)


def _lost(history: History) -> Iterator[str]:
    """P1: what was accepted was received by a connection of the user, or still waits."""
    for user, ids in history.accepted.items():
        there = {message_id for line in history.of(user) for message_id in line.ids}
        there.update(history.waiting.get(user, ()))
        for message_id in ids:
            if message_id not in there and (user, message_id) not in history.excused:
                yield f"{message_id} of {user} is lost"


def _foreign(history: History, line: Line) -> Iterator[str]:
    """Nobody gets what was never published to them."""
    known = {*history.accepted.get(line.user, ()), *history.attempted.get(line.user, ())}
    for message_id in line.ids:
        one = history.broadcasts.get(message_id)
        if message_id not in known and (one is None or not history.means(one, line.user)):
            yield f"{message_id} reached {line.user}, and was not for them"


def _twice(line: Line) -> Iterator[str]:
    """P3: once on each connection."""
    for message_id, times in Counter(line.ids).items():
        if times > 1:
            yield f"{message_id} came {times} times on one connection of {line.user}"


def _out_of_order(history: History, line: Line) -> Iterator[str]:
    """P3: in inbox order. What was only attempted has no place in it."""
    places = {message_id: place for place, message_id in enumerate(history.accepted.get(line.user, ()))}
    last, before = -1, ""
    for message_id in line.ids:
        place = places.get(message_id, last)
        if place < last:
            yield f"{message_id} of {line.user} came after {before}"
        else:
            last, before = place, message_id


def _back_again(history: History, line: Line) -> Iterator[str]:
    """P3: what was settled before a connect does not come again."""
    for message_id in line.ids:
        settled_at = history.settled.get((line.user, message_id))
        if settled_at is not None and settled_at < line.opened_at:
            yield f"{message_id} of {line.user} was settled, and came again"


def _not_exposed(history: History) -> Iterator[str]:
    """P4: every settled (user, message) has an exposure, and every delivery of a quiet line its own."""
    users = {(one.user, one.message_id) for one in history.exposed}
    for user, ids in history.accepted.items():
        settled = set(ids) - set(history.waiting.get(user, ()))
        for message_id in ids:
            key = (user, message_id)
            if message_id in settled and key not in users and key not in history.excused:
                yield f"{message_id} of {user} is settled and has no exposure"
    own = {(one.connection, one.message_id) for one in history.exposed}
    for line in history.lines:
        for message_id in line.ids if line.quiet else ():
            if (line.id, message_id) not in own:
                yield f"{message_id} has no exposure of connection {line.id}"


def _exposed_without_cause(history: History) -> Iterator[str]:
    """P4: none for bytes that never arrived: confirmed is what that very connection received."""
    received = {(line.user, line.id, message_id) for line in history.lines for message_id in line.ids}
    for one in history.exposed:
        if (one.user, one.connection, one.message_id) not in received:
            yield f"{one.message_id} is exposed for {one.user} on {one.connection}, which never received it"
