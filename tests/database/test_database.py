from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from pushserver.core.errors import DatabaseError, DatabaseRefusedError
from pushserver.database import database as module
from pushserver.database.database import MAX_LETTER_BYTES, Database
from pushserver.exposure.event import event_id
from pushserver.exposure.record import DeadLetter, Record, Stored
from tests.database.look import ask, records, some_records
from tests.engines.postgres import Postgres
from tests.exposure.examples import an_exposure


def test_a_record_is_a_row_with_everything_that_the_event_said(url: str, database: Database) -> None:
    database.store(records(an_exposure("ユーザー", "c-9", message_id="m-7", proof="ack")), [])
    (row,) = ask(
        url,
        "SELECT event_id, message_id, username, connection, client_ip, pod, source, proof,"
        " queued_at, pushed_at, confirmed_at, categories FROM exposures_readable",
    )
    assert (str(row[0]), *row[1:]) == (
        event_id("m-7", "ユーザー", "c-9"),
        *("m-7", "ユーザー", "c-9", "203.0.113.9", "pod-1", "live", "ack"),
        *(1_700_000_000_000, 1_700_000_000_010, 1_700_000_000_020),
        '{"vip":["3"],"hall":["a","b"]}',
    )


def test_categories_are_stored_once_for_all_who_have_them(url: str, database: Database) -> None:
    database.store(some_records(20), [])
    database.store(some_records(20, "c-2"), [])
    found = ask(url, "SELECT kind, value, count(*) FROM category_values GROUP BY kind, value ORDER BY 1, 2")
    assert found == [("hall", "a", 1), ("hall", "b", 1), ("vip", "3", 1)]
    joined = "SELECT count(*) FROM exposures JOIN category_values USING (category_set) WHERE kind = 'vip'"
    assert ask(url, joined) == [(40,)]


def test_what_is_known_is_passed_over_and_left_as_it_is(url: str, database: Database) -> None:
    first = records(an_exposure("alice", pushed_at=1), an_exposure("bob"))
    again = records(an_exposure("alice", pushed_at=2), an_exposure("carol"))
    assert database.store(first, []) == Stored(2, 0)
    assert database.store(again, []) == Stored(1, 0)
    assert ask(url, "SELECT username, pushed_at FROM exposures WHERE username = 'alice'") == [("alice", 1)]
    assert ask(url, "SELECT count(*) FROM exposures") == [(3,)]


def test_a_repeat_within_a_batch_is_one_row(database: Database) -> None:
    assert database.store(some_records(3) + some_records(3), []) == Stored(3, 0)


def test_more_rows_than_fit_into_a_statement_are_all_stored(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 7)
    assert database.store(some_records(30), []) == Stored(30, 0)
    assert ask(url, "SELECT count(DISTINCT event_id) FROM exposures") == [(30,)]


def test_nothing_of_a_batch_that_is_refused_is_there(url: str, database: Database) -> None:
    """What no check of ours lets through: a number that no column holds."""
    good = some_records(2)
    bad = good[0]._replace(event_id=event_id("a", "b", "c"), pushed_at=None)  # type: ignore[arg-type]
    with pytest.raises(DatabaseRefusedError):
        database.store([*good, bad], [DeadLetter(b"x", "schema", "")])
    assert ask(url, "SELECT count(*) FROM exposures") == [(0,)]
    assert ask(url, "SELECT count(*) FROM dead_letters") == [(0,)]
    assert database.store(good, []) == Stored(2, 0)
    assert ask(url, "SELECT count(*) FROM category_sets") == [(1,)]


def test_a_dead_letter_is_kept_once_with_its_reason(url: str, database: Database) -> None:
    letter = DeadLetter(b"\x00\xff nonsense", "not_json", "at 1")
    assert database.store([], [letter, letter]) == Stored(0, 1)
    assert database.store([], [letter]) == Stored(0, 0)
    (row,) = ask(url, "SELECT reason, detail, size, data FROM dead_letters")
    assert (*row[:3], bytes(row[3])) == ("not_json", "at 1", 11, b"\x00\xff nonsense")


def test_of_a_large_dead_letter_the_beginning_is_kept(url: str, database: Database) -> None:
    database.store([], [DeadLetter(b"x" * (MAX_LETTER_BYTES + 1), "too_large", "")])
    assert ask(url, "SELECT size, length(data) FROM dead_letters") == [
        (MAX_LETTER_BYTES + 1, MAX_LETTER_BYTES)
    ]


def test_dead_letters_are_bounded_in_number(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LETTERS", 3)
    letters = [DeadLetter(b"%d" % number, "schema", "") for number in range(5)]
    assert [database.store([], letters[:2]).letters, database.store([], letters[2:]).letters] == [2, 1]
    assert ask(url, "SELECT count(*) FROM dead_letters") == [(3,)]


def test_writers_side_by_side_store_each_event_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has all the events at the same moment, in an order of its own: none waits for another for ever.

    Many statements in a transaction, so that the writers are among each other's rows.
    """
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 20)
    events = some_records(3000)
    together = threading.Barrier(4)

    def write(number: int) -> int:
        database = Database(url)
        database.open()
        together.wait(20)
        new = 0
        for start in range(0, 3000, 1000):
            part = events[start : start + 1000]
            new += database.store(part if number % 2 else part[::-1], []).new
        database.close()
        return new

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(write, range(4))) == 3000
    assert ask(url, "SELECT count(*), count(DISTINCT event_id) FROM exposures") == [(3000, 3000)]


def test_two_writers_with_the_same_events_in_opposite_order_never_wait_for_each_other(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stops after its first row until the other has one, too; in one order that never happens."""
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 1)
    url, events, met = postgres.new_database(), some_records(2), threading.Barrier(2)
    database = Database(url)
    database.open()
    # So that they do not already wait for each other's categories.
    database.store(some_records(1, "c-0"), [])
    database.close()

    def write(part: list[Record]) -> int:
        database = Database(url)
        database.open()
        first = iter([True])

        @event.listens_for(database._engine, "after_cursor_execute")
        def stop_once(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if statement.startswith("INSERT INTO exposures") and next(first, False):
                with suppress(threading.BrokenBarrierError):
                    met.wait(0.5)

        try:
            return database.store(part, []).new
        finally:
            database.close()

    with ThreadPoolExecutor(2) as threads:
        assert sum(threads.map(write, [events, events[::-1]])) == 2


def test_category_sets_are_known_only_after_the_commit(url: str, database: Database) -> None:
    """Or the next batch would leave them out, and its rows would have none."""
    good = some_records(1)
    with pytest.raises(DatabaseRefusedError):
        database.store([good[0]._replace(message_id=None)], [])  # type: ignore[arg-type]
    database.store(good, [])
    assert ask(url, "SELECT count(*) FROM category_values") == [(3,)]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    database = Database(f"sqlite:///{tmp_path / 'file' / 'exposures.db'}")
    with pytest.raises(DatabaseError) as failure:
        database.open()
    assert failure.value.kind == "cannot_open"


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("no database " * 1000)
    with pytest.raises(DatabaseError) as failure:
        Database(f"sqlite:///{tmp_path / 'x.db'}").open()
    assert failure.value.kind == "corrupt"


def test_a_sqlite_file_that_another_holds_is_waited_for_and_then_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pushserver.database.engine.WAIT_FOR_LOCK_MS", 100)
    url = f"sqlite:///{tmp_path / 'x.db'}"
    one, other = Database(url), Database(url)
    one.open()
    with one._transaction(), pytest.raises(DatabaseError) as failure:
        other.open()
    assert failure.value.kind == "locked"
    other.open()
    one.close()
    other.close()


def test_postgresql_away_is_told_and_it_works_when_it_is_back(postgres: Postgres) -> None:
    url = postgres.new_database()
    database = Database(url)
    database.open()
    database.store(some_records(1), [])
    postgres.stop()
    with pytest.raises(DatabaseError):
        database.store(some_records(2), [])
    with pytest.raises(DatabaseError) as failure:
        database.store(some_records(2), [])
    assert failure.value.kind == "connection"
    postgres.start()
    assert database.store(some_records(2), []) == Stored(1, 0)
    database.close()


def test_a_call_to_a_postgresql_that_hangs_ends_when_it_is_aborted(postgres: Postgres) -> None:
    database = Database(postgres.new_database())
    database.open()
    postgres.freeze()
    ended: list[Exception] = []

    def store() -> None:
        try:
            database.store(some_records(1), [])
        except DatabaseError as error:
            ended.append(error)

    thread = threading.Thread(target=store)
    thread.start()
    give_up = time.monotonic() + 20
    while thread.is_alive():
        assert time.monotonic() < give_up
        database.abort()
        thread.join(0.05)
    assert len(ended) == 1
    postgres.thaw()
    assert database.store(some_records(1), []).new == 1
    database.close()
