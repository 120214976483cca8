"""Median and 95th percentile, as each database can: PostgreSQL by itself, SQLite with our help."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, literal_column

__all__ = [
    "add_to_sqlite",
    "collected",
    "percentiles",
    "percentiles_of",
    "read_collected",
    "read_percentiles",
]

SHARES = (0.5, 0.95)
_PERCENTILES = "pushserver_percentiles"
_COLLECTED = "pushserver_collected"

Pair = tuple[int | None, int | None]
"""Median and 95th percentile; None for both without a row."""


class _Collected:
    """SQLite's aggregate of all values: 8 bytes for each row, so a million take 8 MB."""

    def __init__(self) -> None:
        self._values = array("q")
        self.step = self._values.append

    def finalize(self) -> bytes:
        """As bytes, for an aggregate answers one value."""
        return self._values.tobytes()


class _Percentiles(_Collected):
    def finalize(self) -> bytes:
        return array("q", [value for value in percentiles_of(self._values) if value is not None]).tobytes()


def percentiles_of(values: Sequence[int]) -> Pair:
    """The first value that the share is not above: what PostgreSQL calls `percentile_disc`."""
    if not values:
        return None, None
    ordered = sorted(values)
    median, high = (ordered[max(0, -int(-share * len(ordered) // 1) - 1)] for share in SHARES)
    return median, high


def add_to_sqlite(connection: Connection) -> None:
    """Make the aggregates known to a connection to SQLite."""
    raw: Any = connection.connection.dbapi_connection
    if isinstance(raw, sqlite3.Connection):
        made: Any = {_PERCENTILES: _Percentiles, _COLLECTED: _Collected}
        for name, aggregate in made.items():
            raw.create_aggregate(name, 1, aggregate)


def percentiles(connection: Connection, value: ColumnElement[int]) -> ColumnElement[Any]:
    """An expression for a query; what it answers is for `read_percentiles`."""
    if connection.dialect.name == "postgresql":
        return func.percentile_disc(literal_column("array[0.5, 0.95]")).within_group(value)
    expression: ColumnElement[Any] = getattr(func, _PERCENTILES)(value)
    return expression


def collected(connection: Connection, value: ColumnElement[int]) -> ColumnElement[Any]:
    """An expression for all values of a group; what it answers is for `read_collected`."""
    name = "array_agg" if connection.dialect.name == "postgresql" else _COLLECTED
    expression: ColumnElement[Any] = getattr(func, name)(value)
    return expression


def read_percentiles(answer: Any) -> Pair:
    """What `percentiles` answered, delays that are not below 0; or the pair itself."""
    # Two clocks make them: a pod's is some milliseconds behind Redis' at times.
    median, high = [max(0, delay) for delay in read_collected(answer)] or (None, None)
    return median, high


def read_collected(answer: Any) -> array[int]:
    """What `collected` answered."""
    values = array("q")
    if isinstance(answer, bytes):
        values.frombytes(answer)
    else:
        values.extend(value for value in answer or () if value is not None)
    return values
