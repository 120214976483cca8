"""A look into a database of exposures that goes past our own code, and records to put there."""

from __future__ import annotations

import sqlite3
from typing import Any

import psycopg

from pushserver.exposure.decoder import Decoder
from pushserver.exposure.event import Confirmed, build_events
from pushserver.exposure.record import Record
from tests.exposure.examples import an_exposure

__all__ = ["ask", "records", "some_records"]


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement, through the driver alone."""
    if url.startswith("sqlite:///"):
        lite = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)
        try:
            rows = lite.execute(statement).fetchall()
            lite.commit()
        finally:
            lite.close()
        return rows
    with psycopg.connect(url) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def records(*shown: Confirmed, pod: str = "pod-1") -> list[Record]:
    """Records of exposures, by the way that events take."""
    decoder = Decoder()
    return [record for event in build_events(shown, pod) for record in decoder.decode(event.data)]


def some_records(count: int, connection: str = "c-1") -> list[Record]:
    """Records of message m-1, each of another user."""
    return records(*(an_exposure(f"user-{number}", connection) for number in range(count)))
