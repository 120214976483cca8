"""The client of Redis or Valkey: from a URL, with our own time-outs and no hidden retries."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pushserver.core.sentinel_url import SentinelURL
from pushserver.stores.cluster import Cluster, Node
from pushserver.stores.pool import Pool, open_client
from pushserver.stores.sentinel import MasterPool, Sentinels

__all__ = ["connect"]

_DEFAULT_PORT = 6379
_OF_A_REDIS = {"host", "port", "db", "username", "password"}
"""Options that do not hold for a sentinel."""


def connect(url: str, *, timeout_ms: int, max_connections: int) -> Redis | Cluster:
    """A client for `redis://`, `rediss://` or `unix://`, or with `+cluster` or `+sentinel`, also with TLS.

    Nothing is connected yet. redis-py would retry ten times, also what is not idempotent; here a command
    is tried once and whoever asked decides. Answers are RESP2 as they come, without redis-py's shaping.
    Raises `ValueError` for a URL that is none.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_ms / 1000,
        "socket_connect_timeout": timeout_ms / 1000,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "max_connections": max_connections,
        # How long a connection of the pool is waited for.
        "timeout": timeout_ms / 1000,
    }
    scheme = urlsplit(url).scheme
    if scheme.endswith("+sentinel"):
        return _of_service(SentinelURL.parse(url), options)
    options = {**parse_url(url.replace("+cluster", "", 1)), **options}
    if not scheme.endswith("+cluster"):
        return open_client(Pool(**options))

    def open_node(node: Node) -> Redis:
        return open_client(Pool(**{**options, "host": node[0], "port": node[1]}))

    return Cluster((options.get("host", "localhost"), options.get("port", _DEFAULT_PORT)), open_node)


def _of_service(url: SentinelURL, options: dict[str, Any]) -> Redis:
    """A client of the master of a service. Sentinels have a user and a password of their own, or none."""
    given: dict[str, Any] = {**parse_url(url.plain), **options}
    user, password = given.pop("sentinel_username", None), given.pop("sentinel_password", None)
    shared = {name: value for name, value in given.items() if name not in _OF_A_REDIS}

    def open_sentinel(node: Node) -> Redis:
        pool = Pool(**shared, host=node[0], port=node[1], username=user, password=password)
        return open_client(pool)

    sentinels = Sentinels(
        url.service, [open_sentinel(node) for node in url.sentinels], timeout_s=given["timeout"]
    )
    tls = given.pop("connection_class", None) is SSLConnection
    mine = {name: value for name, value in given.items() if name not in {"host", "port"}}
    return open_client(MasterPool(sentinels, tls=tls, **mine))
