"""What the terminal client prints: one line for each thing that happens, whatever is in it."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from pushserver.logs import printable

__all__ = ["Display"]

MAX_SEEN = 10_000
"""Ids remembered for dropping repeats; the oldest go first."""


class Display:
    """Prints frames until `count` messages were shown (None: no end), each message id once.

    `write` gets lines whose control characters are escaped, and may raise: nothing is counted then.
    """

    def __init__(self, write: Callable[[str], None], count: int | None) -> None:
        self._write = write
        self._left = count
        self._seen: OrderedDict[str, None] = OrderedDict()

    @property
    def has_enough(self) -> bool:
        """Whether `count` messages were shown."""
        return self._left == 0

    def say(self, what: str, text: str) -> None:
        """Print something that is no frame: `closed`, `refused`, `waiting`."""
        self._write(printable(f"{what:<8} {text}".rstrip()))

    def show(self, frame: Mapping[str, Any]) -> None:
        """Print a frame: of a message its id, time and content, of any other every field."""
        kind = _short(frame.get("type"))
        if kind == "message":
            self._show_message(frame)
        else:
            self.say(
                kind, " ".join(f"{key}={_short(value)}" for key, value in frame.items() if key != "type")
            )

    def _show_message(self, frame: Mapping[str, Any]) -> None:
        message_id = _short(frame.get("id"))
        if message_id in self._seen:
            return
        self.say("message", f"{message_id} {_when(frame.get('time'))} {_json(frame.get('content'))}")
        self._seen[message_id] = None
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        if self._left is not None:
            self._left -= 1


def _when(time: Any) -> str:
    try:
        return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds")
    except (TypeError, ValueError, OverflowError, OSError):
        return _short(time)


def _short(value: Any) -> str:
    return value if isinstance(value, str) and value and " " not in value else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
