"""The client of Redis or Valkey: from a URL, with our own time-outs and no hidden retries."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pushserver.stores.cluster import Cluster, Node

__all__ = ["connect"]

_DEFAULT_PORT = 6379


def connect(url: str, *, timeout_ms: int, max_connections: int) -> Redis | Cluster:
    """A client for `redis://`, `rediss://`, `unix://`, `redis+cluster://` or `rediss+cluster://`.

    Nothing is connected yet. redis-py would retry ten times, also what is not idempotent; here a command
    is tried once and whoever asked decides. Answers are RESP2 as they come, without redis-py's shaping.
    """
    options: dict[str, Any] = {
        **parse_url(url.replace("+cluster", "", 1)),
        "socket_timeout": timeout_ms / 1000,
        "socket_connect_timeout": timeout_ms / 1000,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "max_connections": max_connections,
        # Blocking: a storm waits for a connection of the pool instead of opening thousands.
        "timeout": timeout_ms / 1000,
    }
    if not urlsplit(url).scheme.endswith("+cluster"):
        return _client(options)

    def open_node(node: Node) -> Redis:
        return _client({**options, "host": node[0], "port": node[1]})

    return Cluster((options.get("host", "localhost"), options.get("port", _DEFAULT_PORT)), open_node)


def _client(options: dict[str, Any]) -> Redis:
    client = Redis.from_pool(BlockingConnectionPool(**options))
    client.response_callbacks.clear()
    return client
