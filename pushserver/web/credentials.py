"""Credentials: what a handshake brings to say who is there, before anybody believes it.

A token has four carriers, looked at in this order: `Authorization: Bearer`, the cookie
`pushserver_token`, the subprotocol `bearer.TOKEN` (a browser's only private way), the query `token=`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pushserver.core.errors import PushServerError
from pushserver.core.request import HttpRequest

__all__ = [
    "ACK_SUBPROTOCOL",
    "SUBPROTOCOL",
    "BadHandshakeError",
    "Credentials",
    "TokenSource",
    "check_user_hint",
    "find_credentials",
]

SUBPROTOCOL = "pushserver.v1"
ACK_SUBPROTOCOL = "pushserver.v1.ack"
COOKIE = "pushserver_token"

_BEARER = "bearer."
# RFC 6455 section 4.1: printable ASCII without the separators of RFC 2616.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class BadHandshakeError(PushServerError):
    """A handshake contradicts itself or its grammar: HTTP 400. `reason` never holds the token."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class TokenSource(StrEnum):
    """The carrier that brought a token. A browser adds the cookie by itself, the others it does not."""

    HEADER = "header"
    COOKIE = "cookie"
    SUBPROTOCOL = "subprotocol"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a handshake brought."""

    token: str | None = field(repr=False)
    """Not verified, of any form; None without one."""

    source: TokenSource | None
    """The first carrier of the token; None without one."""

    subprotocol: str | None
    """What the 101 selects: the first offered that we speak, never the `bearer.` one."""

    offered_pushserver: bool
    """Whether a browser that speaks our protocol is there, which can read a close code but no status."""


def find_credentials(request: HttpRequest, *, accept_cookie: bool, query_token: bool) -> Credentials:
    """The credentials of a handshake.

    A carrier that is switched off is not looked at: the cookie without `accept_cookie` (see
    `OriginPolicy.accepts_cookie`), the query without `query_token`. An empty token is none.

    Several carriers may bring the same token. Two *different* tokens, in one carrier or in two, are
    refused, as RFC 6750 section 3.1 asks: whoever may plant one of them (a cookie from a neighbouring
    host) could otherwise choose the user that somebody else connects as.

    Raises `BadHandshakeError` for that, for a subprotocol list that breaks its grammar or repeats
    itself, and for `bearer.TOKEN` offered without a `pushserver.v1*`, which the 101 could not answer.
    """
    offers = _parse_offers(request.header_lines("Sec-WebSocket-Protocol"))
    offered_pushserver = any(_is_ours(offer) for offer in offers)
    bearers = [offer.removeprefix(_BEARER) for offer in offers if offer.startswith(_BEARER)]
    if bearers and not offered_pushserver:
        raise BadHandshakeError(f"the subprotocol bearer needs {SUBPROTOCOL} offered beside it")
    found = [(TokenSource.HEADER, token) for token in _header_tokens(request)]
    if accept_cookie:
        found += [(TokenSource.COOKIE, token) for token in _cookie_tokens(request)]
    found += [(TokenSource.SUBPROTOCOL, token) for token in bearers]
    if query_token:
        found += [(TokenSource.QUERY, token) for token in request.query_values().get("token", ())]
    source, token = _only_one([(source, token) for source, token in found if token])
    selected = next((offer for offer in offers if offer in {SUBPROTOCOL, ACK_SUBPROTOCOL}), None)
    return Credentials(token, source, selected, offered_pushserver)


def check_user_hint(request: HttpRequest, username: str) -> None:
    """Refuse a routing hint `user=NAME` in the query that is not the verified `username`.

    A proxy has routed by it, so a wrong one would lead a user to two places. Raises `BadHandshakeError`.
    """
    if any(hint != username for hint in request.query_values().get("user", ())):
        raise BadHandshakeError("user is not the subject of the token")


def _parse_offers(values: Iterable[str]) -> list[str]:
    """Subprotocols in order of preference; several lines count as one (RFC 6455 section 11.3.4)."""
    offers = [offer.strip(" \t") for value in values for offer in value.split(",")]
    if not all(_TOKEN.fullmatch(offer) for offer in offers):
        raise BadHandshakeError("Sec-WebSocket-Protocol is malformed")
    if len(set(offers)) != len(offers):
        raise BadHandshakeError("Sec-WebSocket-Protocol repeats a subprotocol")
    return offers


def _is_ours(offer: str) -> bool:
    # Not just the prefix: `pushserver.v10` would be another protocol.
    return offer == SUBPROTOCOL or offer.startswith(f"{SUBPROTOCOL}.")


def _header_tokens(request: HttpRequest) -> Iterator[str]:
    """Bearer tokens of `Authorization`. Other schemes are a proxy's business (RFC 9110 section 11.1)."""
    for value in request.header_lines("Authorization"):
        scheme, _, token = value.strip(" \t").partition(" ")
        if scheme.lower() == "bearer":
            yield token.strip(" ")


def _cookie_tokens(request: HttpRequest) -> Iterator[str]:
    """Every one, where `HttpRequest.cookie` takes the first: a second one may contradict it."""
    for value in request.header_lines("Cookie"):
        for pair in value.split(";"):
            name, _, token = pair.partition("=")
            if name.strip(" \t") == COOKIE:
                yield token.strip(" \t")


def _only_one(found: Sequence[tuple[TokenSource, str]]) -> tuple[TokenSource, str] | tuple[None, None]:
    if len({token for _, token in found}) > 1:
        raise BadHandshakeError("the request brings two different tokens")
    return found[0] if found else (None, None)
