"""What the errors of SQLAlchemy and its drivers mean to us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from pushserver.core.errors import DatabaseError, DatabaseRefusedError

__all__ = ["as_database_errors"]

_REFUSED = (exc.DataError, exc.IntegrityError)
"""These very values are the reason: a value out of range, one that breaks a rule of the table."""

_SQLSTATE_KINDS = {
    "08": "connection",
    "25": "read_only",
    "28": "credentials",
    "40": "conflict",
    "42": "schema",
    "53": "resources",
    "57": "operator",
}
"""The class of PostgreSQL's errors, by the first two characters of their code."""

_SQLITE_KINDS = {
    "SQLITE_BUSY": "locked",
    "SQLITE_LOCKED": "locked",
    "SQLITE_FULL": "full",
    "SQLITE_READONLY": "read_only",
    "SQLITE_CANTOPEN": "cannot_open",
    "SQLITE_CORRUPT": "corrupt",
    "SQLITE_NOTADB": "corrupt",
    "SQLITE_IOERR": "input_output",
    "SQLITE_INTERRUPT": "timeout",
}


@contextmanager
def as_database_errors() -> Iterator[None]:
    """Raise `DatabaseError` or `DatabaseRefusedError` for what SQLAlchemy raises.

    Its own texts repeat the statement and its values, which are nobody's business in a log: only what the
    database said is kept of it.
    """
    try:
        yield
    except _REFUSED as error:
        raise DatabaseRefusedError("refused", _said(error)) from None
    except exc.DBAPIError as error:
        raise DatabaseError(_kind(error), _said(error)) from None
    except exc.SQLAlchemyError as error:
        raise DatabaseError("unexpected", type(error).__name__) from None
    except OSError as error:
        raise DatabaseError("cannot_open", str(error.strerror)) from None


def _kind(error: exc.DBAPIError) -> str:
    sqlstate = getattr(error.orig, "sqlstate", None)
    if sqlstate:
        return _SQLSTATE_KINDS.get(sqlstate[:2], "other")
    name = getattr(error.orig, "sqlite_errorname", None)
    if name:
        # Extended names say more: SQLITE_IOERR_WRITE.
        return _SQLITE_KINDS.get("_".join(name.split("_")[:2]), "other")
    return "connection"


def _said(error: exc.DBAPIError) -> str:
    first, _, _ = str(error.orig).strip().partition("\n")
    return "".join(char if char.isprintable() else " " for char in first[:200])
