"""Which web page may call the API: the dashboard, which this listener serves itself, and no other."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from pushserver.core.request import HttpRequest
from pushserver.web.origins import OriginPolicy, origin_header

__all__ = ["OwnPage", "is_literal"]

_SAME = frozenset({"none", "same-origin"})
"""What `Sec-Fetch-Site` says of the address bar, and of a page about its own origin."""


class OwnPage:
    """A browser lets any page send anything to any address, and says in `Origin` which page it was.

    `http://HOST` is ours if HOST is also the request's `Host`, and an address or `localhost`: nobody but
    this listener serves a page from there. A *name* would not do, for whoever owns one can make it lead
    here, having served a page under it before (DNS rebinding). So names, and `https` of a proxy in front,
    are listed in `origins`. That whoever uses the page has the right to is for the API key to show, which
    no browser adds by itself.

    Raises `ConfigError` for an entry that is no page's origin.
    """

    def __init__(self, origins: Sequence[str] = ()) -> None:
        self._listed = OriginPolicy(origins, setting="admin.origins")

    def sent(self, request: HttpRequest) -> bool:
        """Whether the request comes from our own page, or from no page at all."""
        site = request.header_lines("Sec-Fetch-Site")
        if any(value not in _SAME for value in site):
            return False
        origin = origin_header(request)
        return (
            origin is None or self._is_served_here(origin, request.host) or self._listed.allows(origin, None)
        )

    @staticmethod
    def _is_served_here(origin: str, host: str) -> bool:
        return bool(host) and is_literal(host) and origin == f"http://{host}"


def is_literal(host: str) -> bool:
    """Whether a `Host` is an address or `localhost`, with or without a port; or is not there."""
    name = host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    if name.lower() == "localhost" or not name:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
