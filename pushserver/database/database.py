"""Writing to the database of exposures: a batch is one transaction, and what is known is passed over."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, Insert, Table, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

from pushserver.database.engine import make_engine, sqlite_file
from pushserver.database.faults import as_database_errors
from pushserver.database.migrations import migrate
from pushserver.database.schema import category_sets, category_values, dead_letters, exposures
from pushserver.exposure.record import CategorySet, DeadLetter, Record, Stored

__all__ = ["MAX_LETTERS", "MAX_LETTER_BYTES", "Database"]

ROWS_AT_ONCE = 5000
"""Rows in one statement: bounds what it takes in memory on both sides."""

MAX_LETTERS = 100_000
"""Dead letters kept at most; further ones are counted and logged only."""

MAX_LETTER_BYTES = 256 * 1024
"""Of a dead letter's data, so much is kept from its beginning."""

MAX_KNOWN_SETS = 10_000
"""Category sets remembered as stored, at most."""

Row = tuple[Any, ...]


class Database:
    """One connection to the database at `url`; every method blocks, and is for one thread at a time.

    Every method may raise `DatabaseError`, and nothing is stored then, or it is not known: storing the same
    again is safe.
    """

    def __init__(self, url: str, *, timeout_s: float = 30.0) -> None:
        self._engine = make_engine(url, timeout_s=timeout_s)
        self._file = sqlite_file(url)
        self._known_sets: set[int] = set()
        self._raw: Any = None

    def open(self) -> None:
        """Connect, and bring the tables to this version's form. Twice is once.

        Raises `ConfigError` if a newer version of the program made them.
        """
        with as_database_errors():
            if self._file is not None:
                self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._transaction() as connection:
                migrate(connection)

    def store(self, records: Sequence[Record], letters: Sequence[DeadLetter]) -> Stored:
        """Store what is not there yet, all of it or nothing.

        Raises `DatabaseRefusedError` when it refuses some of these very values.
        """
        now = int(time.time() * 1000)
        sets = {record.categories.number: record.categories for record in records}
        with as_database_errors(), self._transaction() as connection:
            self._add_sets(connection, [sets[number] for number in sorted(sets.keys() - self._known_sets)])
            # In the order of the key: two consumers with the same events would else wait for each other.
            rows = sorted((*record[:-1], record.categories.number, now) for record in records)
            stored = Stored(_add(connection, exposures, rows), _add_letters(connection, letters, now))
        self._remember(sets.keys())
        return stored

    def close(self) -> None:
        """Disconnect."""
        self._engine.dispose()

    def abort(self) -> None:
        """From another thread: make the call under way fail soon, also when the database hangs."""
        raw = self._raw
        with suppress(Exception):
            if hasattr(raw, "interrupt"):
                raw.interrupt()
            elif raw is not None:
                # A copy of the descriptor: the driver's own stays the driver's to close.
                with socket.socket(fileno=os.dup(raw.fileno())) as link:
                    link.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._engine.connect() as plain:
            connection = plain.execution_options(writes=True, preserve_rowcount=True)
            self._raw = connection.connection.dbapi_connection
            try:
                with connection.begin():
                    yield connection
            finally:
                self._raw = None

    def _add_sets(self, connection: Connection, sets: Sequence[CategorySet]) -> None:
        _add(connection, category_sets, [(one.number, one.text) for one in sets])
        values = [(kind, value, one.number) for one in sets for kind, value in one.pairs]
        _add(connection, category_values, sorted(values))

    def _remember(self, numbers: Iterable[int]) -> None:
        """Only after the commit: what was rolled back is not known."""
        if len(self._known_sets) > MAX_KNOWN_SETS:
            self._known_sets.clear()
        self._known_sets.update(numbers)


def _add_letters(connection: Connection, letters: Sequence[DeadLetter], now: int) -> int:
    if not letters:
        return 0
    room = MAX_LETTERS - connection.execute(select(func.count()).select_from(dead_letters)).scalar_one()
    rows = {
        digest: (digest, letter.reason, letter.detail, len(letter.data), letter.data[:MAX_LETTER_BYTES], now)
        for letter in letters
        for digest in [sha256(letter.data).hexdigest()]
    }
    return _add(connection, dead_letters, sorted(rows.values())[: max(0, room)])


def _add(connection: Connection, table: Table, rows: Sequence[Row]) -> int:
    """Insert rows that are not there by their key; how many were not."""
    added = 0
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        if connection.dialect.name == "postgresql":
            columns = zip(table.columns.keys(), zip(*part, strict=True), strict=True)
            result = connection.execute(
                _POSTGRESQL[table.name], {name: list(values) for name, values in columns}
            )
        else:
            # Straight to the driver, which binds tuples: SQLAlchemy's dictionaries cost more than the insert.
            result = connection.exec_driver_sql(_SQLITE[table.name], list(part))
        added += result.rowcount
    return added


def _postgresql_insert(table: Table) -> Insert:
    """One statement for any number of rows: each column travels as an array."""
    arrays = [bindparam(column.name, type_=postgresql.ARRAY(column.type)) for column in table.columns]
    rows = func.unnest(*arrays).table_valued(*table.columns.keys()).render_derived()
    inserted = postgresql.insert(table).from_select(table.columns.keys(), select(rows))
    return inserted.on_conflict_do_nothing()


def _sqlite_insert(table: Table) -> str:
    statement = sqlite.insert(table).on_conflict_do_nothing()
    return str(statement.compile(dialect=sqlite.dialect()))


_TABLES = (exposures, category_sets, category_values, dead_letters)
_POSTGRESQL = {table.name: _postgresql_insert(table) for table in _TABLES}
_SQLITE = {table.name: _sqlite_insert(table) for table in _TABLES}
