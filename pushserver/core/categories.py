"""Categories: what kind of user somebody is, as (kind, value) pairs."""

from __future__ import annotations

from collections.abc import Mapping

from pushserver.core.errors import InvalidNameError

__all__ = ["KINDS", "NO_CATEGORIES", "Categories", "matches", "parse_categories"]

KINDS = ("vip", "level", "hall", "agent", "sa", "co", "sc")
"""Every kind there is: VIP, level, hall, and the reseller hierarchy of agent, SA, CO and SC."""

MAX_VALUES = 100
MAX_VALUE_BYTES = 128

Categories = Mapping[str, tuple[str, ...]]
"""Kind to its values, kinds in the order of `KINDS`, kinds without a value left out."""

NO_CATEGORIES: Categories = {}


def parse_categories(raw: object) -> Categories:
    """Categories from decoded JSON: a dictionary of kind to a value or a list of values.

    A value is a text or an integer (kept as its text); repeated values count once. Raises
    `InvalidNameError` naming the kind for an unknown kind, another type, more than 100 values, or a
    value longer than 128 bytes.
    """
    if not isinstance(raw, dict):
        raise InvalidNameError("categories", "must be an object of kind to values")
    unknown = [kind for kind in raw if kind not in KINDS]
    if unknown:
        raise InvalidNameError("categories", f"unknown kind {str(unknown[0])[:32]!r}")
    parsed = {kind: _parse_values(kind, raw[kind]) for kind in KINDS if kind in raw}
    return {kind: values for kind, values in parsed.items() if values}


def _parse_values(kind: str, raw: object) -> tuple[str, ...]:
    items = raw if isinstance(raw, list) else [raw]
    if len(items) > MAX_VALUES:
        raise InvalidNameError(f"categories.{kind}", f"has more than {MAX_VALUES} values")
    return tuple(dict.fromkeys(_parse_value(kind, item) for item in items))


def _parse_value(kind: str, raw: object) -> str:
    if isinstance(raw, bool) or not isinstance(raw, str | int):
        raise InvalidNameError(f"categories.{kind}", "each value must be a text or an integer")
    try:
        value = str(raw)
        size = len(value.encode())
    except ValueError:
        # A lone surrogate, or an integer of more digits than Python turns into a text.
        raise InvalidNameError(f"categories.{kind}", "has no UTF-8 text") from None
    if not value or size > MAX_VALUE_BYTES or not value.isprintable():
        raise InvalidNameError(
            f"categories.{kind}", f"each value must be 1 to {MAX_VALUE_BYTES} bytes of printable text"
        )
    return value


def matches(target: Categories, have: Categories) -> bool:
    """Whether a user with `have` is meant by `target`: any value within a kind, all of the kinds.

    An empty target means everyone.
    """
    return all(any(value in have.get(kind, ()) for value in values) for kind, values in target.items())
