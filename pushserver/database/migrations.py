"""The steps that bring a database to the form this version knows.

A list of statements, not Alembic: that would bring a configuration, an environment script and templates for
what is a loop over a tuple here. A step that was released is never changed; what comes later is a further
step.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, text
from sqlalchemy.sql import func

from pushserver.core.errors import ConfigError
from pushserver.database.schema import schema_version

__all__ = ["MIGRATIONS", "check_version", "migrate"]

_LOCK = 0x7075_7368
"""PostgreSQL's advisory lock: consumers that start together migrate one after the other."""

# "C": ids and names are compared by their bytes, as SQLite does, which is much quicker than by a language.
_TYPES = {
    "sqlite": {"id": "TEXT", "text": "TEXT", "bytes": "BLOB"},
    "postgresql": {"id": "UUID", "text": 'TEXT COLLATE "C"', "bytes": "BYTEA"},
}

_VERSIONS = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY)"

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE exposures (
            event_id {id} NOT NULL PRIMARY KEY,
            message_id {text} NOT NULL,
            username {text} NOT NULL,
            connection {text} NOT NULL,
            client_ip {text} NOT NULL,
            pod {text} NOT NULL,
            source {text} NOT NULL,
            proof {text} NOT NULL,
            queued_at BIGINT NOT NULL,
            pushed_at BIGINT NOT NULL,
            confirmed_at BIGINT NOT NULL,
            category_set BIGINT NOT NULL,
            stored_at BIGINT NOT NULL
        )""",
        "CREATE INDEX exposures_confirmed_at ON exposures (confirmed_at)",
        "CREATE INDEX exposures_message ON exposures (message_id, confirmed_at)",
        "CREATE TABLE category_sets (category_set BIGINT NOT NULL PRIMARY KEY, categories {text} NOT NULL)",
        """CREATE TABLE category_values (
            kind {text} NOT NULL,
            value {text} NOT NULL,
            category_set BIGINT NOT NULL,
            PRIMARY KEY (kind, value, category_set)
        )""",
        "CREATE INDEX category_values_set ON category_values (category_set)",
        """CREATE VIEW exposures_readable AS
            SELECT exposures.*, category_sets.categories
            FROM exposures LEFT JOIN category_sets USING (category_set)""",
        """CREATE TABLE dead_letters (
            digest {text} NOT NULL PRIMARY KEY,
            reason {text} NOT NULL,
            detail {text} NOT NULL,
            size BIGINT NOT NULL,
            data {bytes} NOT NULL,
            stored_at BIGINT NOT NULL
        )""",
    ),
)
"""Step N makes version N + 1 out of version N."""


def migrate(connection: Connection) -> None:
    """Make the steps that are missing, in the caller's transaction. Twice is once.

    Safe for several at once: SQLite's writers begin with a lock, PostgreSQL's take one here. Raises
    `ConfigError` for a database that a newer version of this program made.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    connection.execute(
        text("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL PRIMARY KEY)")
    )
    types = _TYPES[connection.dialect.name]
    for version in range(check_version(connection), len(MIGRATIONS)):
        for statement in MIGRATIONS[version]:
            connection.execute(text(statement.format(**types)))
        connection.execute(insert(schema_version).values(version=version + 1))


def check_version(connection: Connection) -> int:
    """The version that the database has; raises `ConfigError` if this program does not know it."""
    found: int = connection.execute(select(func.coalesce(func.max(schema_version.c.version), 0))).scalar_one()
    if found > len(MIGRATIONS):
        raise ConfigError(
            "consume.database_url",
            f"holds version {found} of the tables, this program knows {len(MIGRATIONS)}",
        )
    return found
