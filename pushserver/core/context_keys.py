"""What handlers tell each other about a request: gin's `Context.Keys`."""

from __future__ import annotations

from collections.abc import Hashable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeGuard, TypeVar

__all__ = ["ContextKeys"]

_T = TypeVar("_T")

_MISSING = object()


class ContextKeys:
    """The methods of a `Context` over its keys. Each has gin's spelling as a second name.

    Each is one operation on a dictionary, which the interpreter makes atomic: they may be called from
    executor threads too.

    The typed getters return the stored object itself if it is of that very type, else the type's zero
    value: a missing key, None and a value of another type look alike. They never convert.
    """

    __slots__ = ()

    keys: dict[Any, Any]

    def set(self, key: Hashable, value: Any) -> None:
        """Store `value`, replacing. Raises `TypeError` for a key that is not hashable."""
        self.keys[key] = value

    Set = set  # noqa: A003 - the method above is meant

    def get(self, key: Hashable) -> tuple[Any, bool]:
        """`(value, True)`, or `(None, False)` for a missing key. A stored None exists: `(None, True)`.

        This is gin's `Get`, not `dict.get`: the pair is always true, so `if ctx.get("k"):` is a mistake.
        The Python way is `ctx.keys.get("k", default)`, `"k" in ctx.keys`, or a typed getter.
        """
        value = self.keys.get(key, _MISSING)
        return (None, False) if value is _MISSING else (value, True)

    Get = get

    def must_get(self, key: Hashable) -> Any:
        """The value, whatever it is. Raises `KeyError` if the key is missing."""
        value, exists = self.get(key)
        if not exists:
            raise KeyError(f"key {key} does not exist")
        return value

    MustGet = must_get

    def delete(self, key: Hashable) -> None:
        """Remove a key; a missing one is no error."""
        self.keys.pop(key, None)

    Delete = delete

    def value(self, key: Hashable) -> Any:
        """The value of a text key; None if it is missing or the key is no text."""
        return self.keys.get(key) if isinstance(key, str) else None

    Value = value

    def _typed(self, key: Hashable, kind: type[_T], zero: _T) -> _T:
        # The very type: bool is an int to isinstance.
        value = self.keys.get(key)
        return value if type(value) is kind else zero

    def get_string(self, key: Hashable) -> str:
        """A str, else ""."""
        return self._typed(key, str, "")

    GetString = get_string

    def get_bool(self, key: Hashable) -> bool:
        """A bool, else False."""
        return self._typed(key, bool, False)

    GetBool = get_bool

    def get_int(self, key: Hashable) -> int:
        """An int (not a bool), else 0."""
        return self._typed(key, int, 0)

    GetInt = get_int
    get_int64 = get_int
    GetInt64 = get_int

    def get_float64(self, key: Hashable) -> float:
        """A float, else 0.0."""
        return self._typed(key, float, 0.0)

    GetFloat64 = get_float64

    def get_time(self, key: Hashable) -> datetime:
        """A datetime, else the first moment of the year 1 in UTC."""
        return self._typed(key, datetime, datetime(1, 1, 1, tzinfo=UTC))

    GetTime = get_time

    def get_duration(self, key: Hashable) -> timedelta:
        """A timedelta, else an empty one."""
        return self._typed(key, timedelta, timedelta(0))

    GetDuration = get_duration

    def get_string_slice(self, key: Hashable) -> list[str]:
        """A list of nothing but str, else a new empty list."""
        value = self.keys.get(key)
        return value if _is_texts(value) else []

    GetStringSlice = get_string_slice

    def get_string_map(self, key: Hashable) -> dict[str, Any]:
        """A dictionary with str keys, else a new empty one."""
        value = self.keys.get(key)
        return value if _has_text_keys(value) else {}

    GetStringMap = get_string_map

    def get_string_map_string(self, key: Hashable) -> dict[str, str]:
        """A dictionary of str to str, else a new empty one."""
        value = self.keys.get(key)
        return value if _has_text_keys(value) and all(type(item) is str for item in value.values()) else {}

    GetStringMapString = get_string_map_string

    def get_string_map_string_slice(self, key: Hashable) -> dict[str, list[str]]:
        """A dictionary of str to lists of str, else a new empty one."""
        value = self.keys.get(key)
        return value if _has_text_keys(value) and all(map(_is_texts, value.values())) else {}

    GetStringMapStringSlice = get_string_map_string_slice


def _is_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(type(item) is str for item in value)


def _has_text_keys(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and all(type(key) is str for key in value)
