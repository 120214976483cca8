from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from pushserver.core.errors import ConfigError
from pushserver.database import reading as module
from pushserver.database.database import Database
from pushserver.database.reading import DELAYS_MS, Figures, Filter, Shown, read
from pushserver.exposure.event import Confirmed, connection_part
from tests.database.look import ask, records, some_records
from tests.exposure.examples import exposure

ALL = Filter()
HOUR_MS = 3_600_000


def shown(
    message: str,
    user: str,
    *,
    vip: tuple[str, ...] = ("1",),
    confirm: int = 10,
    wait: int = 5,
    **more: object,
) -> Confirmed:
    part = connection_part(user, f"c-{user}", "203.0.113.9", {"vip": vip, "hall": ("x",)} if vip else {})
    pushed = 1_700_000_000_000 + wait
    fields = {"source": "live", "proof": "pong", "queued_at": 1_700_000_000_000, **more}
    return exposure(message, connection=part, pushed_at=pushed, confirmed_at=pushed + confirm, **fields)  # type: ignore[arg-type]


@pytest.fixture
def url_with_some(url: str, database: Database) -> str:
    """Two messages, three users, two pods."""
    one = [
        shown("m-1", "alice", vip=("1", "2"), confirm=10),
        shown("m-1", "bob", confirm=30, proof="ack"),
        shown("m-1", "carol", vip=(), confirm=50, wait=HOUR_MS, source="offline"),
    ]
    database.store(records(*one) + records(shown("m-2", "alice", vip=("1", "2")), pod="pod-2"), [])
    return url


def test_by_message(url_with_some: str) -> None:
    with read(url_with_some) as reading:
        assert reading.figures("message", ALL) == [
            Figures("m-1", 3, 2, 1, 3, 30, 50, 5, HOUR_MS),
            Figures("m-2", 1, 1, 0, 1, 10, 10, 5, 5),
        ]
        assert reading.figures("message", ALL, limit=1) == [Figures("m-1", 3, 2, 1, 3, 30, 50, 5, HOUR_MS)]


def test_by_category_counts_in_each_category_of_a_user(url_with_some: str) -> None:
    with read(url_with_some) as reading:
        assert reading.figures("category", ALL) == [
            Figures("hall=x", 3, 2, 1, 2, 10, 30, 5, 5),
            Figures("vip=1", 3, 2, 1, 2, 10, 30, 5, 5),
            Figures("vip=2", 2, 2, 0, 1, 10, 10, 5, 5),
        ]
        assert [one.group for one in reading.figures("category", ALL, limit=2)] == ["hall=x", "vip=1"]


def test_by_pod_by_source_and_by_time(url_with_some: str) -> None:
    with read(url_with_some) as reading:
        by = {
            name: [(one.group, one.delivered, one.users) for one in reading.figures(name, ALL)]
            for name in ("pod", "source", "time")
        }
    first = 1_700_000_000_000 // HOUR_MS * HOUR_MS
    assert by["pod"] == [("pod-1", 3, 3), ("pod-2", 1, 1)]
    assert by["source"] == [("live", 3, 2), ("offline", 1, 1)]
    assert by["time"] == [(str(first), 3, 2), (str(first + HOUR_MS), 1, 1)]


def test_totals_delays_and_span(url_with_some: str) -> None:
    with read(url_with_some) as reading:
        assert reading.totals(ALL) == Figures("all", 4, 3, 1, 3, 10, 50, 5, HOUR_MS)
        counts = dict(zip((*DELAYS_MS, None), reading.delays(ALL), strict=True))
        assert {bound: count for bound, count in counts.items() if count} == {20: 2, 50: 1, 100: 1}
        assert reading.span(ALL) == (1_700_000_000_015, 1_700_000_000_050 + HOUR_MS)


@pytest.mark.parametrize(
    "which, delivered",
    [
        (Filter(message="m-1"), 3),
        (Filter(message="m-9"), 0),
        (Filter(category=("vip", "2")), 2),
        (Filter(category=("vip", "2"), message="m-1"), 1),
        (Filter(since=1_700_000_000_035), 2),
        (Filter(until=1_700_000_000_035), 2),
        (Filter(since=1_700_000_000_015, until=1_700_000_000_016), 2),
    ],
)
def test_filters(url_with_some: str, which: Filter, delivered: int) -> None:
    with read(url_with_some) as reading:
        assert reading.totals(which).delivered == delivered
        assert sum(reading.delays(which)) == delivered
        for by in ("message", "pod", "source", "time"):
            assert sum(one.delivered for one in reading.figures(by, which)) == delivered
        halls = [one for one in reading.figures("category", which) if one.group.startswith("hall")]
        assert sum(one.delivered for one in halls) <= delivered


def test_whom_messages_reached_by_the_time_of_their_publish(url_with_some: str) -> None:
    """An id may have been another message's before."""
    with read(url_with_some) as reading:
        asked = {"m-1": 1_700_000_000_000, "m-2": 1, "m-9": 1}
        assert reading.users_of(asked) == {"m-1": {"alice", "bob", "carol"}, "m-2": set(), "m-9": set()}
        assert reading.users_of({}) == {}


def test_exposures_are_counted_by_message_since_a_time(url_with_some: str) -> None:
    with read(url_with_some) as reading:
        counts = reading.counts_since(1_700_000_000_000)
        assert sum(counts.values()) == reading.totals(Filter()).delivered
        assert counts["m-1"] == len(reading.users_of({"m-1": 1_700_000_000_000})["m-1"])
        assert reading.counts_since(1_800_000_000_000) == {}


def test_the_exposures_of_a_message_to_a_user_come_in_order(url: str, database: Database) -> None:
    again = shown("m-1", "alice", confirm=90)
    again.connection = connection_part("alice", "c-again", "203.0.113.9", {})
    database.store(records(again, shown("m-1", "alice"), shown("m-1", "bob"), shown("m-2", "alice")), [])
    with read(url) as reading:
        first, second = reading.shown("m-1", "alice")
    assert (first.connection, second.connection) == ("c-alice", "c-again")
    assert first == Shown("c-alice", "pod-1", "live", "pong", 1_700_000_000_005, 1_700_000_000_015)


def test_nothing_yet_is_no_error(url: str, database: Database) -> None:
    with read(url) as reading:
        assert reading.totals(ALL) == Figures("all", 0, 0, 0, 0, None, None, None, None)
        assert all(reading.figures(by, ALL) == [] for by in module.GROUPS)
        assert (reading.span(ALL), sum(reading.delays(ALL))) == (None, 0)


def test_percentiles_are_alike_on_both_databases(url: str, database: Database) -> None:
    """The first value that the share is not above; for the categories, too."""
    delays = [(n * 7919) % 1000 + 1 for n in range(237)]
    database.store(records(*(shown("m", f"u-{n}", confirm=delay) for n, delay in enumerate(delays))), [])
    high = sorted(delays)[226 - 1]
    with read(url) as reading:
        for by in module.GROUPS:
            (one, *_) = reading.figures(by, ALL)
            assert (one.confirm_median, one.confirm_p95) == (statistics.median_low(delays), high)


def test_a_report_sees_one_state_whatever_is_written_meanwhile(url: str, database: Database) -> None:
    database.store(some_records(3), [])
    with read(url) as reading:
        assert reading.totals(ALL).delivered == 3
        database.store(some_records(5, "c-2"), [])
        assert reading.totals(ALL).delivered == 3
    with read(url) as reading:
        assert reading.totals(ALL).delivered == 8


def test_a_file_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), read(f"sqlite:///{tmp_path / 'x.db'}"):
        pass
    assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize(
    "condition, index",
    [("message_id = 'm-7'", "exposures_message"), ("confirmed_at < 1700000000020", "exposures_confirmed_at")],
)
def test_a_few_among_many_are_found_by_an_index(
    url: str, database: Database, condition: str, index: str
) -> None:
    every = [shown(f"m-{n % 200}", f"u-{n}", confirm=n) for n in range(10_000)]
    database.store(records(*every), [])
    ask(url, "ANALYZE")
    explain = "EXPLAIN QUERY PLAN" if url.startswith("sqlite") else "EXPLAIN"
    assert index in str(ask(url, f"{explain} SELECT username FROM exposures WHERE {condition}"))
