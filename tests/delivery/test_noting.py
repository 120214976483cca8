"""What comes live is noted and written down later: nobody can tell it from what is written down at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushserver.core.message import Message
from pushserver.delivery.connection import Connection, State
from pushserver.delivery.live_batch import NOTED_BYTES, NOTED_WEIGHT, LiveBatch
from pushserver.delivery.sent import Sent
from tests.delivery.wire import Direct, Wire, connection, limits, message, push_live

WINDOW = limits(messages=300, bytes=2 * NOTED_BYTES, log_confirm_s=2.0)


@dataclass
class Twin:
    """A live connection, and all that can be told of it. `at_once` writes down whatever it notes."""

    at_once: bool
    wire: Wire = field(default_factory=Wire)
    seen: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.one: Connection = connection(wire=self.wire, window=WINDOW)
        self.one.state = State.LIVE
        self.confirmed: list[Sent] = []
        self.logged: set[str] = set()

    def do(self, step: tuple[str, int], place: int, now: float) -> None:
        """One step; what it answers is kept."""
        kind, number = step
        with patch.object(random, "uniform", lambda low, high: (low + high) / 2):
            self.seen.append(getattr(self, kind)(number, place, now))

    def live(self, number: int, place: int, now: float) -> object:
        return self._live(place * 100, 1 + number % 3, number, now)

    def _live(self, place: int, count: int, size: int, now: float) -> object:
        placed = [(at, message(f"m-{at}", size)) for at in range(place, place + count)]
        return self._push_live(LiveBatch(placed, 1000), now)

    def _push_live(self, batch: LiveBatch, now: float) -> object:
        answer = push_live(self.one, batch, now)
        if self.at_once:
            assert self.one.ledger is self.one._ledger
        return answer

    def large(self, number: int, place: int, now: float) -> object:
        return self._live(place * 100, 2, number * 20, now)

    def many(self, number: int, place: int, now: float) -> object:
        return [self._live(place * 100 + at, 1, 1, now) for at in range(number)]

    def inbox(self, number: int, place: int, now: float) -> object:
        return self.one.push(messages(number % 4, place), "live", 1000, now)

    def of_both(self, number: int, place: int, now: float) -> object:
        """An id of few, which stand in the inbox as well as in the log."""
        one = message(f"b-{number % 3}")
        if number % 2 and one.id not in self.one.ledger.sent:
            return self.one.push([one], "live", 1000, now)
        batch = LiveBatch([(place * 100, one)], 1000, look_closely=one.id in self.logged)
        self.logged.add(one.id)
        return self._push_live(batch, now)

    def log(self, number: int, place: int, now: float) -> object:
        entries = [(place * 100 + at, one) for at, one in enumerate(messages(number % 4, place))]
        return self.one.push_log(entries, "live", 1000, now)

    def ping(self, number: int, place: int, now: float) -> object:
        self.one.ping(now)
        return None

    def pong(self, number: int, place: int, now: float) -> object:
        if not self.wire.pings:
            return None
        answer = self.one.pong(self.wire.pings[-1], now)
        self.confirmed += answer[0] if answer else []
        return None if answer is None else [sent.id for sent in answer[0]]

    def settle(self, number: int, place: int, now: float) -> object:
        some, self.confirmed = self.confirmed[:number], self.confirmed[number:]
        self.one.forget([sent.id for sent in some])
        return None

    def look(self, number: int, place: int, now: float) -> object:
        ledger = self.one.ledger
        books = (ledger.unconfirmed, ledger.unconfirmed_bytes, ledger.log_at, list(ledger.sent))
        written = self.one.transport.written
        return self.one.cursor(place * 100), self.one.room(), self.one.ping_by, written, books

    def behind_and_live(self, number: int, place: int, now: float) -> object:
        self.one.fall_behind(place * 100)
        self.one.state = State.LIVE
        return None


KINDS = (
    "live",
    "large",
    "many",
    "inbox",
    "of_both",
    "log",
    "ping",
    "pong",
    "settle",
    "look",
    "behind_and_live",
)
OFTEN = ("live",) * 8 + ("pong", "settle") * 2
STEPS = st.lists(st.tuples(st.sampled_from((*OFTEN, *KINDS)), st.integers(0, 60)), max_size=40)


def messages(count: int, place: int) -> Sequence[Message]:
    return [message(f"i-{place}-{at}") for at in range(count)]


@settings(max_examples=300)
@given(STEPS, st.sampled_from([0.01, 0.3, 0.7]))
def test_whatever_happens_it_writes_and_tells_the_same(steps: list[tuple[str, int]], pace: float) -> None:
    compare(steps, pace)


@pytest.mark.parametrize("seed", range(60))
def test_nor_does_it_in_a_long_life(seed: int) -> None:
    """Of few kinds of steps each, for what others do often hides much."""
    chance = random.Random(seed)
    kinds = ("live", *chance.sample(KINDS, 3))
    steps = [(chance.choice(kinds), chance.randrange(60)) for _ in range(200)]
    compare(steps, chance.choice([0.01, 0.3, 0.7]))


def compare(steps: Sequence[tuple[str, int]], pace: float) -> None:
    """Do the same with some, which answer and write the same."""
    with Direct() as direct:
        at_once, noting, writing = twins = [Twin(at_once=True), Twin(at_once=False), Twin(False, direct)]
        for place, step in enumerate([*steps, ("pong", 0), ("look", 0)], 1):
            for twin in twins:
                twin.do(step, place, 5.0 + place * pace)
            assert noting.seen[-1] == writing.seen[-1] == at_once.seen[-1], (place, step)
        assert noting.wire.writes == at_once.wire.writes
        # Of frames that were written one behind the other to a descriptor nobody can tell where each began.
        assert b"".join(direct.writes) == b"".join(at_once.wire.writes)


def live(count: int) -> tuple[Connection, Wire]:
    """A connection that was pushed so many, a ping being far away."""
    wire = Wire()
    one = connection(wire=wire, window=limits(log_confirm_s=1000.0))
    one.state = State.LIVE
    for place in range(1, count + 1):
        assert push_live(one, LiveBatch([(place, message(f"m-{place}"))], 1000), 5.0) is not None
    return one, wire


def test_it_is_only_noted_until_somebody_looks() -> None:
    one, _ = live(3)
    assert len(one.noted) == 3
    assert one.ping_by > 0
    assert one.stalled_since() is None
    assert len(one.noted) == 3, "neither needs the books"
    assert one.ledger.unconfirmed == 3
    assert one.noted == []


def test_no_more_is_noted_than_may_go_without_a_ping() -> None:
    one, wire = live(NOTED_WEIGHT - 1)
    assert (len(one.noted), wire.pings) == (NOTED_WEIGHT - 1, [])
    assert push_live(one, LiveBatch([(9999, message("last"))], 1000), 5.0) is not None
    assert (one.noted, wire.pings) == ([], [b"1"])


@pytest.mark.parametrize("window", [limits(messages=NOTED_WEIGHT - 1), limits(bytes=NOTED_BYTES - 1)])
def test_nothing_is_noted_where_the_window_is_smaller(window: object) -> None:
    one = connection(window=window)  # type: ignore[arg-type]  # a parameter of pytest's
    one.state = State.LIVE
    assert push_live(one, LiveBatch([(1, message("m-1"))], 1000), 5.0)
    assert one.noted == []
    assert one.ledger.unconfirmed == 1


def test_nothing_is_noted_beside_what_came_from_elsewhere_until_it_is_settled() -> None:
    """Of an id that comes again this must be found, which the log's messages do not need."""
    one, wire = live(0)
    one.push([message("from the inbox")], "live", 1000, 5.0)
    assert one.push_live_only(message("stored nowhere"), 1000, 5.0)
    for place, (settled, noted) in enumerate([("none", 0), ("from the inbox", 0), ("stored nowhere", 1)], 1):
        assert one.pong(wire.pings[-1], 5.0) or place > 1
        one.forget([settled])
        assert push_live(one, LiveBatch([(place, message(f"m-{place}"))], 1000), 5.0) is not None
        assert len(one.noted) - one.noted.count(None) == noted, settled


def test_what_comes_after_a_ping_is_noted_while_what_came_before_is_not_settled() -> None:
    one, wire = live(3)
    one.ping(5.0)
    for place in (4, 5):
        assert push_live(one, LiveBatch([(place, message(f"m-{place}"))], 1000), 5.0) is not None
    assert (len(one.noted), len(one._ledger.sent)) == (2, 3)
    answer = one.pong(wire.pings[-1], 5.0)
    assert answer is not None
    assert [sent.id for sent in answer[0]] == ["m-1", "m-2", "m-3"]
    assert (one.ledger.unconfirmed, len(one.ledger.sent)) == (2, 5)
    assert push_live(one, LiveBatch([(6, message("m-6"))], 1000), 5.0) is not None
    assert [entry is None for entry in one.noted] == [True, True, False], "two have no ping behind them"
    one.forget([sent.id for sent in answer[0]])
    assert (list(one.ledger.sent), one.cursor(9)) == (["m-4", "m-5", "m-6"], 3)


def test_what_was_written_down_counts_as_what_may_be_noted_until_the_next_ping() -> None:
    one, wire = live(NOTED_WEIGHT - 3)
    assert one.ledger.unconfirmed == NOTED_WEIGHT - 3
    for place in range(1000, 1003):
        assert wire.pings == []
        assert push_live(one, LiveBatch([(place, message(f"m-{place}"))], 1000), 5.0) is not None
    assert wire.pings == [b"1"]


def test_nothing_is_noted_where_a_ping_is_due_at_once() -> None:
    one, _ = live(1)
    one.ping(5.0)
    assert one.push_log([(2, message("m-2"))], "log", 1000, 5.0)
    assert push_live(one, LiveBatch([(3, message("m-3"))], 1000), 5.0) is not None
    assert one.noted == []


def test_who_is_closed_has_it_in_the_books_and_is_given_no_more() -> None:
    one, wire = live(2)
    one.closed()
    assert (one.noted, one._ledger.unconfirmed) == ([], 2)
    writes = len(wire.writes)
    assert push_live(one, LiveBatch([(9, message("m-9"))], 1000), 5.0) is None
    assert len(wire.writes) == writes


def test_who_falls_behind_stands_where_the_last_was_or_all_were_offered() -> None:
    for offered, stands in ((1, 2), (7, 7)):
        one, _ = live(2)
        one.fall_behind(offered)
        assert (one.ledger.log_at, one.state) == (stands, State.CATCHING_UP)
        assert push_live(one, LiveBatch([(9, message("m-9"))], 1000), 5.0) is None
