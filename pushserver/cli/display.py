"""What `connect` prints: one line for each thing that happens, whatever is in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pushserver.logs import printable

if TYPE_CHECKING:
    from pushserver.client import Message

__all__ = ["Display"]

_PLAIN: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "closed": lambda told: f"{told['code']} {told['reason']}",
    "failed": lambda told: str(told["reason"]),
    "refused": lambda told: str(told["reason"]),
    "waiting": lambda told: f"{told['seconds']:.1f} s",
}
"""The client's own events; all others are frames."""


class Display:
    """Prints messages and events. `write` gets lines whose control characters are escaped, and may raise."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def message(self, message: Message) -> None:
        """Print a message: its id, time and content."""
        self._say("message", f"{_short(message.id)} {_when(message.time)} {_json(message.content)}")

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Print what is no message: of a frame every field."""
        if kind in _PLAIN:
            self._say(kind, _PLAIN[kind](fields))
        else:
            self._say(_short(kind), " ".join(f"{name}={_short(value)}" for name, value in fields.items()))

    def _say(self, what: str, text: str) -> None:
        self._write(printable(f"{what:<8} {text}".rstrip()))


def _when(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return str(time_ms)


def _short(value: Any) -> str:
    return value if isinstance(value, str) and value and " " not in value else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
