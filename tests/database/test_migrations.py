from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import inspect

from pushserver.core.errors import ConfigError, DatabaseError
from pushserver.database import migrations
from pushserver.database.database import Database
from pushserver.database.migrations import MIGRATIONS
from pushserver.database.schema import metadata
from tests.database.look import ask, some_records


def test_the_tables_are_as_queries_see_them(database: Database) -> None:
    made = inspect(database._engine)
    for table in metadata.tables.values():
        columns = {column["name"]: column for column in made.get_columns(table.name)}
        assert list(columns) == table.columns.keys()
        assert not any(column["nullable"] for column in columns.values())
        key = made.get_pk_constraint(table.name)["constrained_columns"]
        assert key == table.primary_key.columns.keys()


def test_opening_twice_changes_nothing(url: str, database: Database) -> None:
    database.store(some_records(1), [])
    database.open()
    other = Database(url)
    other.open()
    other.close()
    assert ask(url, "SELECT version FROM schema_version") == [(len(MIGRATIONS),)]
    assert ask(url, "SELECT count(*) FROM exposures") == [(1,)]


def test_those_who_open_at_once_migrate_one_after_the_other(url: str) -> None:
    def open_one(_number: int) -> None:
        database = Database(url)
        database.open()
        database.close()

    with ThreadPoolExecutor(5) as threads:
        list(threads.map(open_one, range(5)))
    assert ask(url, "SELECT version FROM schema_version") == [(len(MIGRATIONS),)]


def test_a_further_step_is_made_on_what_is_there(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.store(some_records(2), [])
    step = ("ALTER TABLE exposures ADD COLUMN further {text}",)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, step))
    database.open()
    assert ask(url, "SELECT further FROM exposures") == [(None,), (None,)]
    assert ask(url, "SELECT max(version) FROM schema_version") == [(len(MIGRATIONS) + 1,)]


def test_a_step_that_fails_leaves_what_was_there(
    url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ("CREATE TABLE half (one INTEGER)", "ALTER TABLE nowhere ADD COLUMN x INTEGER")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, step))
    with pytest.raises(DatabaseError):
        database.open()
    assert not inspect(database._engine).has_table("half")
    assert ask(url, "SELECT max(version) FROM schema_version") == [(len(MIGRATIONS),)]


def test_the_database_of_a_newer_version_is_refused(url: str, database: Database) -> None:
    ask(url, "INSERT INTO schema_version VALUES (99) RETURNING version")
    with pytest.raises(ConfigError) as failure:
        database.open()
    assert failure.value.setting == "consume.database_url"
