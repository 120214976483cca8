"""From an event's JSON to records: everything is checked, for anybody may write to a topic or a stream."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

from pushserver.core.categories import KINDS, parse_categories
from pushserver.core.errors import InvalidEventError, InvalidNameError
from pushserver.core.jsontext import dump, parse_quick
from pushserver.core.names import check_message_id, check_pod_name, check_username
from pushserver.exposure.event import MAX_BYTES, MAX_EXPOSURES, event_id
from pushserver.exposure.record import CategorySet, Record

__all__ = ["MAX_EVENT_BYTES", "Decoder"]

SCHEMA = 1
MAX_EVENT_BYTES = 4 * MAX_BYTES + 64 * 1024
"""Bytes of an event at most; no pod writes a larger one. Bounds what parsing it may take."""

MAX_SETS = 10_000
"""Category sets remembered at most; beyond it all are forgotten, and worked out anew."""

_MAX_TIME_MS = 1 << 53
_TOKEN = re.compile(r"[!-~]{1,64}")
# Empty where the peer has no address (a Unix socket).
_ADDRESS = re.compile(r"[!-~]{0,64}")
_SOURCES = frozenset({"live", "offline", "log"})
_PROOFS = frozenset({"pong", "ack"})


class Decoder:
    """Turns events into records, and remembers category sets, which repeat. Not for two threads at once."""

    def __init__(self) -> None:
        self._sets: dict[str, CategorySet] = {}

    def decode(self, data: bytes) -> list[Record]:
        """The records of an event, one for each exposure.

        An event is taken or refused as a whole. Raises `InvalidEventError` with the reason `empty`,
        `too_large`, `not_json`, `schema` (another number than 1) or `field` (missing, or not what it may be).
        Fields that are not known are passed over.
        """
        event = _parse(data)
        message_id = _checked(event, "message_id", check_message_id)
        pod = _checked(event, "pod", check_pod_name)
        source = _one_of(event, "source", _SOURCES)
        queued_at = _time(event, "queued_at")
        shown = event.get("exposures")
        if not isinstance(shown, list) or not 0 < len(shown) <= MAX_EXPOSURES:
            raise InvalidEventError("field", f"exposures: must be a list of 1 to {MAX_EXPOSURES}")
        records = []
        for number, one in enumerate(shown):
            try:
                records.append(self._record(one, message_id, pod, source, queued_at))
            except InvalidEventError as error:
                raise InvalidEventError("field", f"exposures[{number}].{error.detail}") from None
        return records

    def _record(self, shown: Any, message_id: str, pod: str, source: str, queued_at: int) -> Record:
        if not isinstance(shown, dict):
            raise InvalidEventError("field", "must be an object")
        username = _checked(shown, "username", check_username)
        connection = _matching(shown, "connection", _TOKEN)
        return Record(
            event_id(message_id, username, connection),
            message_id,
            username,
            connection,
            _matching(shown, "client_ip", _ADDRESS),
            pod,
            source,
            _one_of(shown, "proof", _PROOFS),
            queued_at,
            _time(shown, "pushed_at"),
            _time(shown, "confirmed_at"),
            self._category_set(shown.get("categories")),
        )

    def _category_set(self, raw: Any) -> CategorySet:
        try:
            key = dump(raw)
        except ValueError as error:
            raise InvalidEventError("field", f"categories: {error}") from None
        known = self._sets.get(key)
        if known is None:
            if len(self._sets) >= MAX_SETS:
                self._sets.clear()
            known = self._sets[key] = _make_set(raw)
        return known


def _parse(data: bytes) -> dict[str, Any]:
    if not data:
        raise InvalidEventError("empty", "no data")
    if len(data) > MAX_EVENT_BYTES:
        raise InvalidEventError("too_large", f"{len(data)} bytes, {MAX_EVENT_BYTES} at most")
    try:
        # Decoded here: ujson takes bytes that are no UTF-8.
        event = parse_quick(data.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidEventError("not_json", str(error)[:200]) from None
    if not isinstance(event, dict):
        raise InvalidEventError("not_json", "no object")
    schema = event.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise InvalidEventError("schema", f"{str(schema)[:32]!r}, this program knows {SCHEMA}")
    return event


def _checked(fields: dict[str, Any], name: str, check: Callable[[object], str]) -> str:
    try:
        return check(fields.get(name))
    except InvalidNameError as error:
        raise InvalidEventError("field", f"{name}: {error.reason}") from None


def _one_of(fields: dict[str, Any], name: str, allowed: frozenset[str]) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or value not in allowed:
        raise InvalidEventError("field", f"{name}: must be one of {', '.join(sorted(allowed))}")
    return value


def _matching(fields: dict[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not form.fullmatch(value):
        raise InvalidEventError("field", f"{name}: must be at most 64 characters of printable ASCII")
    return value


def _time(fields: dict[str, Any], name: str) -> int:
    value = fields.get(name)
    # A bool is an int, too.
    if type(value) is not int or not 0 <= value < _MAX_TIME_MS:
        raise InvalidEventError("field", f"{name}: must be milliseconds since 1970")
    return value


def _make_set(raw: Any) -> CategorySet:
    try:
        parsed = parse_categories(raw)
    except InvalidNameError as error:
        raise InvalidEventError("field", str(error)) from None
    ordered = {kind: sorted(parsed[kind]) for kind in KINDS if kind in parsed}
    # The standard library's, whose text stays the same when a quicker one changes its spacing or escapes.
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))
    number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
    pairs: Sequence[tuple[str, str]] = [(kind, value) for kind, values in ordered.items() for value in values]
    return CategorySet(number, text, tuple(pairs))
