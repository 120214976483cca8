"""One table from what went wrong to what a back end is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pushserver.core.errors import (
    IdReusedError,
    InvalidFieldError,
    InvalidNameError,
    PushServerError,
    RecalledError,
    StoreError,
)

__all__ = ["Refusal", "refusal_of"]


class Refusal(NamedTuple):
    """A status with the code and the message of its JSON; `more` are further fields of the error."""

    status: int
    code: str
    message: str
    more: Mapping[str, str] = {}

    def error(self) -> dict[str, Any]:
        """The error as JSON has it."""
        return {"code": self.code, "message": self.message, **self.more}


def _field(error: InvalidFieldError) -> Refusal:
    return Refusal(400, "bad_field", str(error), {"field": error.field} if error.field else {})


def _store(error: StoreError) -> Refusal:
    # Its class helps a back end to decide; its reason is for the log.
    return Refusal(503, "unavailable", f"storage is unavailable ({error.kind})", {"kind": error.kind})


_TABLE: Mapping[type[PushServerError], Callable[[Any], Refusal]] = {
    InvalidFieldError: _field,
    InvalidNameError: lambda error: Refusal(400, f"bad_{error.kind}", str(error)),
    IdReusedError: lambda error: Refusal(409, "id_reused", str(error)),
    RecalledError: lambda error: Refusal(410, "recalled", str(error)),
    StoreError: _store,
}


def refusal_of(error: BaseException | None) -> Refusal | None:
    """What to tell about `error`; None if it is a fault of ours."""
    for kind in type(error).__mro__:
        if kind in _TABLE:
            return _TABLE[kind](error)
    return None
