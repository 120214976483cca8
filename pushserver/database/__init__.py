"""The database of exposures, SQLite or PostgreSQL: one row for each."""
