"""JSON as a browser reads it: strict on the way in, compact on the way out.

ujson is quick but takes `NaN`, `Infinity` and `01`, which no browser parses, so what comes from
outside and goes on to clients is checked by the standard library's parser.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import ujson

__all__ = ["dump", "parse_quick", "parse_strict"]


def dump(value: Any) -> str:
    """Compact JSON text that UTF-8 can hold.

    Raises `ValueError` for NaN, infinities, lone surrogates, and for what JSON has no form for.
    """
    try:
        text: str = ujson.dumps(
            value, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False, reject_bytes=True
        )
        text.isascii() or text.encode()  # ujson lets lone surrogates pass
    except (OverflowError, TypeError, UnicodeError) as error:
        raise ValueError(f"not JSON: {error}") from None
    return text


def parse_quick(text: str | bytes) -> Any:
    """Parse what stays inside this process (a client's request). Raises `ValueError`."""
    return ujson.loads(text)


def parse_strict(text: str | bytes) -> Any:
    """Parse JSON as RFC 8259 has it, refusing NaN, infinities, byte order marks and too deep nesting.

    A number too large for a double (`1e400`) is an infinity. Raises `ValueError` (bytes that are no
    UTF-8 included).
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        return _STRICT.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


# Built once: `json.loads` builds one for each call that asks for more than the default.
_STRICT = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
