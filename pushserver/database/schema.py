"""The tables as queries see them; what makes them is in `migrations`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, MetaData, String, Table
from sqlalchemy.dialects.postgresql import UUID

__all__ = ["category_sets", "category_values", "dead_letters", "exposures", "metadata", "schema_version"]

metadata = MetaData()

exposures = Table(
    "exposures",
    metadata,
    # Text in SQLite, so that an analyst reads the same id in both.
    Column("event_id", String().with_variant(UUID(as_uuid=False), "postgresql"), primary_key=True),
    Column("message_id", String, nullable=False),
    Column("username", String, nullable=False),
    Column("connection", String, nullable=False),
    Column("client_ip", String, nullable=False),
    Column("pod", String, nullable=False),
    Column("source", String, nullable=False),
    Column("proof", String, nullable=False),
    Column("queued_at", BigInteger, nullable=False),
    Column("pushed_at", BigInteger, nullable=False),
    Column("confirmed_at", BigInteger, nullable=False),
    Column("category_set", BigInteger, nullable=False),
    Column("stored_at", BigInteger, nullable=False),
)
"""Times are milliseconds since 1970: Redis' clock, `stored_at` the consumer's."""

category_sets = Table(
    "category_sets",
    metadata,
    Column("category_set", BigInteger, primary_key=True, autoincrement=False),
    Column("categories", String, nullable=False),
)
"""The categories that many exposures share, as JSON."""

category_values = Table(
    "category_values",
    metadata,
    Column("kind", String, primary_key=True),
    Column("value", String, primary_key=True),
    Column("category_set", BigInteger, primary_key=True, autoincrement=False),
)
"""The same, a row for each (kind, value), for joins and filters."""

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("digest", String, primary_key=True),
    Column("reason", String, nullable=False),
    Column("detail", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("stored_at", BigInteger, nullable=False),
)
"""What was read and is no event: once, by the SHA-256 of its data. Of large data only the beginning."""

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))
"""One row for each migration that was made."""
