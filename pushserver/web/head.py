"""The head of a request as a plain `HttpRequest`, if it is one that cannot be read in two ways.

This is no HTTP server. What is plain here is a small part of what HTTP allows: `GET /ws`, HTTP/1.1, printable
ASCII in lines that end in CRLF, one sound Host, no body. Whatever else there is, hostile or only unusual, is
Tornado's to judge, so nothing passes here that Tornado would refuse.
"""

from __future__ import annotations

import re

from pushserver.core.cached import cached
from pushserver.core.request import HttpRequest

__all__ = ["MAX_HEAD_BYTES", "PATH", "find_end", "read_head"]

MAX_HEAD_BYTES = 32 * 1024
PATH = "/ws"
MAX_QUERY_PARTS = 100
"""Parts of a query that are read here; a decent client sends two."""

MAX_CACHED_NAME = 64
"""Bytes of a header's name whose spelling is kept."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_PLAIN = re.compile(rb"GET /ws(?:\?[!-~]*+)? HTTP/1\.1\r\n(?:" + _TOKEN + rb":[ -~]*+\r\n)++\r\n")
_HOST = re.compile(r"(?:[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_BODILY = frozenset({"Content-Length", "Expect", "Te", "Trailer", "Transfer-Encoding"})


def find_end(data: bytes, since: int) -> int:
    """Where the head at the beginning of `data` ends; 0 if it does not yet. What was before `since` is known.

    It ends where Tornado takes it to end, also by a bare LF: then Tornado will judge it.
    """
    since = max(0, since - 3)
    after_crlf, after_lf = data.find(b"\n\r\n", since), data.find(b"\n\n", since)
    if after_crlf >= 0 and not 0 <= after_lf < after_crlf:
        return after_crlf + 3
    return after_lf + 2 if after_lf >= 0 else 0


def read_head(head: bytes, peer: str, *, unix_socket: bool) -> HttpRequest | None:
    """The request of a whole head; None for one that Tornado is to judge."""
    if not _PLAIN.fullmatch(head):
        return None
    # The pattern lets no other line end and no colon stand in a name, so there is one way to cut it.
    first, *lines = head[:-4].decode("ascii").split("\r\n")
    headers = []
    for line in lines:
        name, _, value = line.partition(":")
        spelled = _canonical(name) if len(name) <= MAX_CACHED_NAME else _canonical.__wrapped__(name)
        headers.append((spelled, value.strip(" ")))
    names = [name for name, _ in headers]
    if names.count("Host") != 1 or not _BODILY.isdisjoint(names):
        return None
    host = headers.pop(names.index("Host"))[1]
    path, _, query = first[len("GET ") : -len(" HTTP/1.1")].partition("?")
    if not _HOST.fullmatch(host) or query.count("&") >= MAX_QUERY_PARTS:
        return None
    return HttpRequest("GET", path, query, headers, peer, unix_socket, host)


@cached("header_names", 256)
def _canonical(name: str) -> str:
    """A header's name as Tornado spells it: `Sec-Websocket-Key`."""
    return "-".join(part.capitalize() for part in name.split("-"))
