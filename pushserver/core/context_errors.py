"""What went wrong while a request was handled: the entries of gin's `Context.Errors`."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

__all__ = ["ErrorEntry", "ErrorType"]


class ErrorType(IntEnum):
    """Whom an error is for."""

    PRIVATE = 1
    PUBLIC = 2


class ErrorEntry:
    """An error that a handler recorded: private and without meta data until told otherwise."""

    __slots__ = ("_err", "_meta", "_type")

    def __init__(self, err: Exception) -> None:
        self._err = err
        self._type: int = ErrorType.PRIVATE
        self._meta: Any = None

    def __str__(self) -> str:
        return str(self._err)

    @property
    def err(self) -> Exception:
        """The error itself."""
        return self._err

    Err = err

    @property
    def type(self) -> int:
        """Whom the error is for, see `ErrorType`."""
        return self._type

    Type = type  # noqa: A003 - the property above is meant

    @property
    def meta(self) -> Any:
        """What was attached, None at first."""
        return self._meta

    Meta = meta

    def set_type(self, error_type: int) -> ErrorEntry:
        """Set the type; returns the entry itself."""
        self._type = error_type
        return self

    SetType = set_type

    def set_meta(self, meta: Any) -> ErrorEntry:
        """Attach `meta`; returns the entry itself."""
        self._meta = meta
        return self

    SetMeta = set_meta
