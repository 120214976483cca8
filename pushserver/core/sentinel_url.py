"""The URL of a service that sentinels watch over: `redis+sentinel://HOST[:PORT],.../SERVICE[/DB]`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["SentinelURL"]

DEFAULT_PORT = 26379

_URL = re.compile(
    r"(?P<scheme>rediss?)\+sentinel://(?P<user>[^@/?#]*@)?(?P<hosts>[^@/?#]+)"
    r"/(?P<service>[A-Za-z0-9._-]+)(?P<db>/[0-9]*)?(?P<options>\?[^#]*)?"
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:\s]+)(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class SentinelURL:
    """Its parts. `plain` is the URL of a Redis with everything else that it says: user, database, options."""

    sentinels: tuple[tuple[str, int], ...]
    service: str
    plain: str = field(repr=False)
    """Holds the password. Its host is the first sentinel's, which is no Redis."""

    @classmethod
    def parse(cls, url: str) -> SentinelURL:
        """Raises `ValueError`, which does not repeat the URL."""
        parts = _URL.fullmatch(url)
        hosts = [_HOST.fullmatch(host) for host in parts["hosts"].split(",")] if parts else []
        sentinels = tuple(
            (host["host"].strip("[]"), int(host["port"] or DEFAULT_PORT)) for host in hosts if host
        )
        if not parts or len(sentinels) < len(hosts) or not all(0 < port <= 65535 for _, port in sentinels):
            raise ValueError(
                "must be redis+sentinel://HOST[:PORT][,HOST[:PORT]...]/SERVICE[/DB],"
                " with user and password percent-encoded"
            )
        first = parts["hosts"].split(",")[0]
        plain = "".join(
            (parts["scheme"], "://", parts["user"] or "", first, parts["db"] or "", parts["options"] or "")
        )
        return cls(sentinels, parts["service"], plain)
