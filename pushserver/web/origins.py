"""Origins: which web pages may open a connection (RFC 6454, RFC 6455 section 10.2).

A browser lets any page connect anywhere and adds the cookies of the target by itself; only the server
can refuse (cross-site WebSocket hijacking). What a browser says about itself beside `Origin`, such as
`Sec-Fetch-Site`, is not looked at.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import NamedTuple

from pushserver.core.errors import ConfigError
from pushserver.core.request import HttpRequest
from pushserver.web.credentials import TokenSource

__all__ = ["OriginPolicy", "origin_header"]

_HOST = r"(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])"
_ORIGIN = re.compile(rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://{_HOST}(?::(?P<port>[1-9][0-9]{{0,4}}))?")
_HOST_HEADER = re.compile(rf"{_HOST}(?::[0-9]{{1,5}})?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: str
    """Empty for the scheme's default."""


class OriginPolicy:
    """An allow list of origins, `scheme://host[:port]`, and of nothing that merely looks like them.

    Origins are compared after what RFC 6454 section 4 and 6.2 says and no more: scheme and host in
    lower case, the default port left out. An internationalised host is listed as browsers send it, in
    punycode.

    With an empty list no page may connect. Then `allow_loopback` (development mode) lets pages on
    `http://localhost`, `http://127.0.0.1` and `http://[::1]` in, on any port; beside a list it has no
    effect.

    Raises `ConfigError` for an entry that is no page's origin (`*`, `null`, with a path, `wss://`); it names
    `setting`, which the list comes from.
    """

    __slots__ = ("_hosts", "_loopback", "_origins")

    def __init__(
        self, allow: Sequence[str], *, allow_loopback: bool = False, setting: str = "origin.allow"
    ) -> None:
        self._origins = frozenset(_check_entry(entry, setting) for entry in allow)
        self._hosts = frozenset(origin.host for origin in self._origins)
        self._loopback = allow_loopback and not allow

    @property
    def accepts_cookie(self) -> bool:
        """Whether the cookie may carry a token: only with an allow list.

        A browser adds the cookie for whatever page asks, so without a list that says which pages are
        ours the cookie proves nothing, and is treated as if it were not there.
        """
        return bool(self._origins)

    def allows(self, origin: str | None, source: TokenSource | None) -> bool:
        """Whether a handshake with this `Origin` header (None: without one) may go on; if not, HTTP 403.

        `source` is the carrier of its token. Without `Origin` it is no browser's page, and may go on
        unless its token came in the cookie. Without a token there is nothing to steal: it may go on, to be
        refused as not authenticated.
        """
        if origin is None:
            return source is not TokenSource.COOKIE
        parsed = _parse_origin(origin)
        if parsed is None:
            return False
        return parsed in self._origins or (self._loopback and _is_loopback(parsed))

    def host_allowed(self, host: str) -> bool:
        """Whether a request may name this server so in its `Host` header ("": without one); if not, HTTP 421.

        This stops DNS rebinding, where a page's own host name is made to lead here. So with a list set,
        a host *name* has to be the host of one of its origins (list the server's own public origin if
        pages come from another host); ports are not compared, for a proxy changes them. An IP address
        and `localhost` are always allowed: nobody can rebind them. Without a list no foreign page gets
        past `allows`, and every host is allowed.
        """
        if not self._origins:
            return True
        match = _HOST_HEADER.fullmatch(host)
        if match is None:
            return False
        name = match["host"].lower()
        return name in self._hosts or name == "localhost" or _is_address(name)


def origin_header(request: HttpRequest) -> str | None:
    """The `Origin` of a request, None without one. Several are joined, which no policy allows."""
    lines = request.header_lines("Origin")
    return ", ".join(lines) if lines else None


def _parse_origin(text: str) -> _Origin | None:
    """The origin that `text` is in the form that is compared; None if it is not exactly one.

    The pattern takes ASCII only, so lower case here folds nothing else (U+212A would become a `k`).
    """
    match = _ORIGIN.fullmatch(text)
    if match is None or int(match["port"] or 0) > 65535:
        return None
    scheme, port = match["scheme"].lower(), match["port"]
    return _Origin(scheme, match["host"].lower(), "" if port == _DEFAULT_PORTS.get(scheme) else port or "")


def _check_entry(entry: str, setting: str) -> _Origin:
    origin = _parse_origin(entry)
    if origin is None:
        raise ConfigError(setting, f"{entry!r} is not scheme://host[:port] (punycode, no path)")
    if origin.scheme in {"ws", "wss"}:
        raise ConfigError(setting, f"{entry!r} is no page's origin (https://, not wss://)")
    return origin


def _is_loopback(origin: _Origin) -> bool:
    return origin.scheme == "http" and origin.host in _LOOPBACK


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
