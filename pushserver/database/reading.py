"""Reading the database of exposures: figures by message, category, pod, source or time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, literal, select

from pushserver.core.errors import ConfigError
from pushserver.database.by_category import by_category
from pushserver.database.engine import make_engine, sqlite_file
from pushserver.database.faults import as_database_errors
from pushserver.database.migrations import MIGRATIONS, check_version
from pushserver.database.percentiles import add_to_sqlite, percentiles, read_percentiles
from pushserver.database.schema import category_values, exposures

__all__ = ["DELAYS_MS", "GROUPS", "Figures", "Filter", "Reading", "Shown", "read"]

READ_S = 300.0
"""Seconds that one question may take."""

GROUPS = ("message", "category", "pod", "source", "time")

DELAYS_MS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000)
"""Upper bounds of the steps in which delays are counted."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which exposures count. Times are milliseconds since 1970, of the confirm; `until` is not included."""

    since: int | None = None
    until: int | None = None
    message: str = ""
    category: tuple[str, str] | None = None
    """(kind, value): of users who are in it."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of the exposures of one group. Delays are in milliseconds, None without an exposure."""

    group: str
    delivered: int
    pong: int
    """Of these, confirmed by a pong; the others by an `ack`."""
    ack: int
    users: int
    """Different ones."""
    confirm_median: int | None
    """From the push to the confirm."""
    confirm_p95: int | None
    wait_median: int | None
    """From the publish to the push: of an offline message, how long it waited."""
    wait_p95: int | None


@dataclass(frozen=True, slots=True)
class Shown:
    """One exposure of a message to a user. Times are milliseconds since 1970 by Redis' clock."""

    connection: str
    pod: str
    source: str
    proof: str
    pushed_at: int
    confirmed_at: int


class Reading:
    """Answers questions about exposures, all about one state, whatever is written meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        if connection.dialect.name == "sqlite":
            add_to_sqlite(connection)

    def figures(
        self, by: str, which: Filter, *, bucket_ms: int = 3_600_000, limit: int | None = None
    ) -> list[Figures]:
        """Figures by one of `GROUPS`; raises `DatabaseError`.

        By time in the order of time, in buckets of `bucket_ms`; else the most delivered first, at most
        `limit` groups. By category, an exposure counts in each category that its user was in.
        """
        if by == "category":
            with as_database_errors():
                rows = by_category(self._connection, _conditions(which), limit)
            return [_figures(row) for row in rows]
        group = _group(by, bucket_ms)
        query = self._query(group, which).group_by(group).limit(limit)
        ordered = query.order_by(group) if by == "time" else query.order_by(func.count().desc(), group)
        return self._ask(ordered)

    def totals(self, which: Filter) -> Figures:
        """Figures of all of them; raises `DatabaseError`."""
        return self._ask(self._query(literal("all"), which))[0]

    def delays(self, which: Filter) -> list[int]:
        """How many were confirmed within each of `DELAYS_MS` and not the one before, and how many later."""
        delay = exposures.c.confirmed_at - exposures.c.pushed_at
        bounds = [func.count().filter(delay < bound) for bound in DELAYS_MS]
        query = select(*bounds, func.count()).select_from(exposures).where(*_conditions(which))
        with as_database_errors():
            counts = [0, *self._connection.execute(query).one()]
        return [more - less for less, more in pairwise(counts)]

    def span(self, which: Filter) -> tuple[int, int] | None:
        """Times of the first and the last confirm; None without any."""
        confirmed_at = exposures.c.confirmed_at
        # Each by itself: so it is one look into the index.
        first = select(confirmed_at).where(*_conditions(which)).order_by(confirmed_at).limit(1)
        last = select(confirmed_at).where(*_conditions(which)).order_by(confirmed_at.desc()).limit(1)
        with as_database_errors():
            ends = [self._connection.execute(query).scalar() for query in (first, last)]
        return None if ends[0] is None or ends[1] is None else (ends[0], ends[1])

    def users_of(self, messages: Mapping[str, int]) -> dict[str, set[str]]:
        """Who each of these messages reached: id -> usernames. Raises `DatabaseError`.

        `messages` has with each id its `queued_at`: an id may have been another message's before.
        """
        columns = (exposures.c.message_id, exposures.c.queued_at, exposures.c.username)
        query = select(*columns).distinct().where(exposures.c.message_id.in_(list(messages)))
        users: dict[str, set[str]] = {message_id: set() for message_id in messages}
        with as_database_errors():
            for message_id, queued_at, username in self._connection.execute(query):
                if queued_at == messages[message_id]:
                    users[message_id].add(username)
        return users

    def counts_since(self, since_ms: int) -> dict[str, int]:
        """How many exposures each message has that was published, and confirmed, at `since_ms` or later.

        Raises `DatabaseError`.
        """
        query = (
            select(exposures.c.message_id, func.count())
            .where(exposures.c.confirmed_at >= since_ms, exposures.c.queued_at >= since_ms)
            .group_by(exposures.c.message_id)
        )
        with as_database_errors():
            return dict(self._connection.execute(query).all())

    def shown(self, message_id: str, username: str) -> list[Shown]:
        """The exposures of a message to a user, in the order of their confirms; raises `DatabaseError`."""
        columns = [exposures.c[name] for name in Shown.__slots__]
        query = select(*columns).where(exposures.c.message_id == message_id, exposures.c.username == username)
        with as_database_errors():
            return [Shown(*row) for row in self._connection.execute(query.order_by(exposures.c.confirmed_at))]

    def _query(self, group: ColumnElement[Any], which: Filter) -> Select[Any]:
        return (
            select(
                group,
                func.count(),
                func.count().filter(exposures.c.proof == "pong"),
                func.count(exposures.c.username.distinct()),
                percentiles(self._connection, exposures.c.confirmed_at - exposures.c.pushed_at),
                percentiles(self._connection, exposures.c.pushed_at - exposures.c.queued_at),
            )
            .select_from(exposures)
            .where(*_conditions(which))
        )

    def _ask(self, query: Select[Any]) -> list[Figures]:
        with as_database_errors():
            return [_figures(row) for row in self._connection.execute(query)]


@contextmanager
def read(url: str) -> Iterator[Reading]:
    """Read the database at `url`. Raises `DatabaseError`, and `ConfigError` when it is not there yet."""
    file = sqlite_file(url)
    if file is not None and not file.exists():
        raise ConfigError("consume.database_url", f"there is no {file} yet: `pushserver consume` makes it")
    engine = make_engine(url, timeout_s=READ_S)
    try:
        with as_database_errors(), engine.connect() as plain:
            options = {"isolation_level": "REPEATABLE READ"} if plain.dialect.name == "postgresql" else {}
            connection = plain.execution_options(**options)
            if connection.dialect.name == "postgresql":
                # Of tables that are new it knows no sizes, and would look at all rows once for each category
                # set. What is asked here is a look at many rows, never at one after the other.
                connection.exec_driver_sql("SET enable_nestloop = off")
            if check_version(connection) < len(MIGRATIONS):
                raise ConfigError("consume.database_url", "has old tables: `pushserver consume` renews them")
            yield Reading(connection)
    finally:
        engine.dispose()


def _group(by: str, bucket_ms: int) -> ColumnElement[Any]:
    if by == "time":
        return exposures.c.confirmed_at - exposures.c.confirmed_at % bucket_ms
    return {"message": exposures.c.message_id, "pod": exposures.c.pod, "source": exposures.c.source}[by]


def _conditions(which: Filter) -> Sequence[ColumnElement[bool]]:
    conditions = []
    if which.since is not None:
        conditions.append(exposures.c.confirmed_at >= which.since)
    if which.until is not None:
        conditions.append(exposures.c.confirmed_at < which.until)
    if which.message:
        conditions.append(exposures.c.message_id == which.message)
    if which.category is not None:
        conditions.append(exposures.c.category_set.in_(_sets_with(*which.category)))
    return conditions


def _sets_with(kind: str, value: str) -> Select[Any]:
    these = category_values.c.kind == kind, category_values.c.value == value
    return select(category_values.c.category_set).where(*these)


def _figures(row: Any) -> Figures:
    group, delivered, pong, users, confirm, wait = row
    delays = *read_percentiles(confirm), *read_percentiles(wait)
    return Figures(str(group), delivered, pong, delivered - pong, users, *delays)
