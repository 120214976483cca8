"""The HTTP request as the chain sees it: plain values, no web framework.

Text that comes from the wire is Latin-1 (one character a byte), as HTTP parsers hand it over. Every
look-up takes time linear in the size of what it looks through.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from pushserver.core.errors import PushServerError

__all__ = ["HttpRequest", "NoCookieError", "parse_query", "query_unescape"]

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_COOKIE_VALUE = re.compile(r"[ !#-:<-\[\]-~]*")


class NoCookieError(PushServerError, KeyError):
    """The request has no cookie called `name`."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"no cookie called {name}")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request as it was sent. Query and headers may hold tokens, so its repr leaves them out."""

    method: str
    path: str
    query: str = field(default="", repr=False)
    """What stands behind the question mark, undecoded."""
    headers: Sequence[tuple[str, str]] = field(default=(), repr=False)
    """(name, value) in the order sent, repeated lines kept, without Host (as in Go: see `host`)."""
    peer: str = ""
    """The address at the other end of the socket, without the port; "" on a unix socket."""
    unix_socket: bool = False
    """Whether the request came in through a unix socket."""
    host: str = ""
    """The Host header."""
    _by_name: dict[str, list[str]] | None = field(default=None, init=False, repr=False, compare=False)
    _query_values: dict[str, list[str]] | None = field(default=None, init=False, repr=False, compare=False)

    def header(self, name: str) -> str:
        """The first line called `name` (any letter case), even an empty one; "" if there is none."""
        return next(iter(self.header_lines(name)), "")

    def header_lines(self, name: str) -> Sequence[str]:
        """The values of every line called `name` (any letter case), in the order sent."""
        by_name = self._by_name
        if by_name is None:
            by_name = {}
            for line, value in self.headers:
                by_name.setdefault(line.lower(), []).append(value)
            object.__setattr__(self, "_by_name", by_name)
        return by_name.get(name.lower(), ())

    def query_values(self) -> dict[str, list[str]]:
        """The decoded query, see `parse_query`; parsed at the first call, the same object ever after."""
        values = self._query_values
        if values is None:
            values = parse_query(self.query)
            object.__setattr__(self, "_query_values", values)
        return values

    def cookie(self, name: str) -> str:
        """The first cookie called `name`, without quotes round it, query-unescaped.

        A bad escape gives "". As in Go's net/http a value that holds quotes, backslashes, control or
        non-ASCII characters is no cookie, and the next of that name is taken. Raises `NoCookieError`.
        """
        if _TOKEN.fullmatch(name):
            for line in self.header_lines("Cookie"):
                for part in line.split(";"):
                    key, _, raw = part.strip(" \t").partition("=")
                    if key.strip(" \t") == name and (value := _cookie_value(raw)) is not None:
                        return query_unescape(value) or ""
        raise NoCookieError(name)


def _cookie_value(raw: str) -> str | None:
    if len(raw) > 1 and raw[0] == raw[-1] == '"':
        raw = raw[1:-1]
    return raw if _COOKIE_VALUE.fullmatch(raw) else None


def parse_query(query: str) -> dict[str, list[str]]:
    """Every key of an undecoded query with its values in the order sent, by the rules of Go's net/url.

    Empty parts are skipped, `a` alone is `a=`, nothing is trimmed. A part with `;` or a bad escape is
    dropped and the others stay, so nothing is ever refused.
    """
    values: dict[str, list[str]] = {}
    for part in query.split("&"):
        if not part or ";" in part:
            continue
        raw_key, _, raw_value = part.partition("=")
        key, value = query_unescape(raw_key), query_unescape(raw_value)
        if key is not None and value is not None:
            values.setdefault(key, []).append(value)
    return values


def query_unescape(text: str) -> str | None:
    """Decode `+` and `%XX` as UTF-8, None for a bad escape. Bytes that are no UTF-8 become U+FFFD."""
    if text.isascii() and "%" not in text:
        return text.replace("+", " ")
    if _BAD_ESCAPE.search(text):
        return None
    raw = text.replace("+", " ").encode("latin-1", "replace")
    return unquote_to_bytes(raw).decode("utf-8", "replace")
