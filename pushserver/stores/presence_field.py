"""What a presence field says: `U:POD` -> `{"boot","since"}`; somebody else may have written it."""

from __future__ import annotations

from collections.abc import Sequence

from pushserver.core.jsontext import parse_quick
from pushserver.stores.keys import pod_of

__all__ = ["presence_of", "read_presence"]


def presence_of(flat: Sequence[bytes]) -> dict[str, dict[str, int]]:
    """Pod -> its record, from the fields and values of a presence hash; what is no field is left out."""
    fields = zip(flat[::2], flat[1::2], strict=True)
    return {pod: read_presence(value) for field, value in fields if (pod := pod_of(field)) is not None}


def read_presence(value: bytes) -> dict[str, int]:
    """`boot` and `since` (ms), as far as they can be read."""
    try:
        record = parse_quick(value)
    except ValueError:
        return {}
    if not isinstance(record, dict):
        return {}
    return {name: record[name] for name in ("boot", "since") if type(record.get(name)) is int}
