"""What handlers ask of the request: gin's request accessors."""

from __future__ import annotations

import re

from pushserver.core.client_ip import ClientIPRule
from pushserver.core.request import HttpRequest

__all__ = ["ContextRequest"]

_MAP_NAME = re.compile(r"\[([^]]+)\]")


class ContextRequest:
    """The methods of a `Context` over its request. Each has gin's spelling as a second name."""

    __slots__ = ()

    request: HttpRequest
    params: list[tuple[str, str]]
    _client_ip_rule: ClientIPRule
    _full_path: str

    def client_ip(self) -> str:
        """The client's address behind trusted proxies: see `ClientIPRule.client_ip`."""
        return self._client_ip_rule.client_ip(self.request)

    ClientIP = client_ip

    def remote_ip(self) -> str:
        """The peer's address as the socket tells it, unchecked; "" on a unix socket."""
        return self._client_ip_rule.remote_ip(self.request)

    RemoteIP = remote_ip

    def get_header(self, name: str) -> str:
        """The first line of a request header (any letter case), even an empty one; "" if there is none."""
        return self.request.header(name)

    GetHeader = get_header

    def content_type(self) -> str:
        """Content-Type up to the first space or semicolon, letter case kept; "" if there is none."""
        return re.split("[ ;]", self.request.header("Content-Type"), maxsplit=1)[0]

    ContentType = content_type

    def is_websocket(self) -> bool:
        """Whether Connection and Upgrade ask for a WebSocket. No full check of the handshake."""
        connection, upgrade = self.request.header("Connection"), self.request.header("Upgrade")
        return "upgrade" in connection.lower() and upgrade.lower() == "websocket"

    IsWebsocket = is_websocket

    def cookie(self, name: str) -> str:
        """The first cookie of that name, unescaped. Raises `NoCookieError`, a `KeyError`."""
        return self.request.cookie(name)

    Cookie = cookie

    def param(self, key: str) -> str:
        """The first route parameter of that name, else ""."""
        return next((value for name, value in self.params if name == key), "")

    Param = param

    def add_param(self, key: str, value: str) -> None:
        """Append a route parameter; an earlier one of that name stays in front."""
        self.params.append((key, value))

    AddParam = add_param

    def full_path(self) -> str:
        """The route pattern that matched, "" for none."""
        return self._full_path

    FullPath = full_path

    def get_query_array(self, key: str) -> tuple[list[str], bool]:
        """`(all values, True)` of a query key, or `([], False)`. The list is new each time."""
        values = self.request.query_values().get(key, ())
        return list(values), bool(values)

    GetQueryArray = get_query_array

    def query_array(self, key: str) -> list[str]:
        """All values of a query key, [] if there is none."""
        return self.get_query_array(key)[0]

    QueryArray = query_array

    def get_query(self, key: str) -> tuple[str, bool]:
        """`(first value, True)` of a query key, even an empty one; or `("", False)`."""
        values, found = self.get_query_array(key)
        return (values[0], True) if found else ("", False)

    GetQuery = get_query

    def query(self, key: str) -> str:
        """The first value of a query key, else ""."""
        return self.get_query(key)[0]

    Query = query

    def default_query(self, key: str, default: str) -> str:
        """The first value of a query key, even an empty one; `default` if the key is missing."""
        value, found = self.get_query(key)
        return value if found else default

    DefaultQuery = default_query

    def get_query_map(self, key: str) -> tuple[dict[str, str], bool]:
        """`({name: first value}, found)` from `key[name]=value`. `key[a][b]` is name a; `key[]` is none."""
        named: dict[str, str] = {}
        for text, values in self.request.query_values().items():
            if text.startswith(key) and (match := _MAP_NAME.match(text, len(key))):
                named.setdefault(match[1], values[0])
        return named, bool(named)

    GetQueryMap = get_query_map

    def query_map(self, key: str) -> dict[str, str]:
        """The dictionary of `get_query_map` alone."""
        return self.get_query_map(key)[0]

    QueryMap = query_map
