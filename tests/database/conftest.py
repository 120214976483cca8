"""Every test of this package runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pushserver.database.database import Database


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that does not exist yet, or is empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'exposures.db'}"
    made: str = request.getfixturevalue("postgres").new_database()
    return made


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    """One that is open."""
    database = Database(url)
    database.open()
    yield database
    database.close()
