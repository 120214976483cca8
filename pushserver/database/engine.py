"""SQLAlchemy's engine for a URL, with our own time-outs and the one form of transaction we use."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url

from pushserver.core.errors import ConfigError

__all__ = ["make_engine", "sqlite_file"]

CONNECT_S = 5
"""Seconds for PostgreSQL to take a connection."""

WAIT_FOR_LOCK_MS = 5000
"""How long one writer of a SQLite file waits for another."""

_PAGE_CACHE_KIB = 65_536


def make_engine(url: str, *, timeout_s: float) -> Engine:
    """An engine with one connection; nothing is connected yet.

    `timeout_s` is for one statement of PostgreSQL. Raises `ConfigError` when its driver is missing.
    """
    parsed = make_url(url)
    return _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed, timeout_s)


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite database; None for another."""
    parsed = make_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, pool_size=1, max_overflow=0, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(raw: Any, _record: object) -> None:
        # Transactions are begun below: the driver's own begin late, after a read, and then fail at once
        # where a writer that begins as one waits for its turn.
        raw.isolation_level = None
        for pragma in (
            f"busy_timeout={WAIT_FOR_LOCK_MS}",
            # With less, a power cut takes back what was committed, and acknowledged since.
            "synchronous=FULL",
            f"cache_size=-{_PAGE_CACHE_KIB}",
        ):
            raw.execute(f"PRAGMA {pragma}")
        _use_wal(raw)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _use_wal(raw: sqlite3.Connection) -> None:
    """Readers see a finished state and hold up no writer.

    The switch, made once for a file, waits for nobody by itself, whatever `busy_timeout` says.
    """
    give_up = time.monotonic() + WAIT_FOR_LOCK_MS / 1000
    while True:
        try:
            raw.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.02)
        else:
            return


def _postgresql(url: URL, timeout_s: float) -> Engine:
    milliseconds = int(timeout_s * 1000)
    arguments = {
        "connect_timeout": CONNECT_S,
        "application_name": "pushserver",
        "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
    }
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=1,
            max_overflow=0,
            # What the URL says itself goes first.
            connect_args={name: value for name, value in arguments.items() if name not in url.query},
        )
    except ModuleNotFoundError:
        raise ConfigError(
            "consume.database_url", "PostgreSQL needs the extra: pip install pushserver[postgres]"
        ) from None
