"""Negotiating permessage-deflate (RFC 7692 section 7.1): which of a client's offers is accepted, and how."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pushserver.core.deflate import MAX_DEFLATED_BYTES

__all__ = ["Agreement", "agree"]

NAME = "permessage-deflate"

_ANSWER = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
_FLAGS = frozenset({"server_no_context_takeover", "client_no_context_takeover"})
_SERVER_WINDOW = "server_max_window_bits"
_CLIENT_WINDOW = "client_max_window_bits"
_BITS = {str(bits): bits for bits in range(8, 16)}
_BLANK = " \t"
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was negotiated. No context is taken over either way, whatever was offered."""

    answer: str
    """The value of `Sec-WebSocket-Extensions` in the 101."""
    most: int
    """Bytes of a frame at most that may be compressed: all of it fits the client's window."""


def agree(lines: Iterable[str]) -> Agreement | None:
    """The first offer in the `Sec-WebSocket-Extensions` lines that can be accepted; None if there is none.

    Offers that are garbled, or not as the RFC has them, are passed over.
    """
    # Cut at each comma and semicolon, also within quotes: no value that is any good holds one.
    agreements = (_accept(offer) for line in lines for offer in line.split(",") if NAME in offer)
    return next((agreement for agreement in agreements if agreement is not None), None)


def _accept(offer: str) -> Agreement | None:
    name, *parts = (part.strip(_BLANK) for part in offer.split(";"))
    parameters = dict(map(_parameter, parts))
    if (
        name != NAME
        or len(parameters) < len(parts)
        or not all(map(_is_valid, parameters, parameters.values()))
    ):
        return None
    bits = parameters.get(_SERVER_WINDOW)
    if bits is None:
        return Agreement(_ANSWER, MAX_DEFLATED_BYTES)
    # zlib's own window stays the largest. No matter: it looks back no further than a frame is long.
    most = MAX_DEFLATED_BYTES if bits == "15" else 1 << _BITS[bits]
    return Agreement(f"{_ANSWER}; {_SERVER_WINDOW}={bits}", most)


def _parameter(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    value = value.lstrip(_BLANK)
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _ESCAPED.sub(r"\1", value[1:-1])
    return name.rstrip(_BLANK), value if equals else None


def _is_valid(name: str, value: str | None) -> bool:
    if name in _FLAGS:
        return value is None
    if name == _SERVER_WINDOW:
        return value in _BITS
    # Without a value, or with one that the client keeps to anyway: it is told no other.
    return name == _CLIENT_WINDOW and (value is None or value in _BITS)
