"""The client of Redis or Valkey: from a URL, with our own time-outs and no hidden retries."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

__all__ = ["connect"]


def connect(url: str, *, timeout_ms: int, max_connections: int) -> Redis | RedisCluster:
    """A client for `redis://`, `rediss://`, `unix://`, `redis+cluster://` or `rediss+cluster://`.

    Nothing is connected yet. redis-py would retry ten times, also what is not idempotent; here a command
    is tried once and whoever asked decides. Answers are RESP2 as they come, without redis-py's shaping.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_ms / 1000,
        "socket_connect_timeout": timeout_ms / 1000,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "max_connections": max_connections,
    }
    scheme = urlsplit(url).scheme
    client: Redis | RedisCluster
    if scheme.endswith("+cluster"):
        client = RedisCluster.from_url(
            url.replace("+cluster", "", 1), cluster_error_retry_attempts=2, **options
        )
    else:
        # Blocking: a storm waits for a connection of the pool instead of opening thousands.
        pool = BlockingConnectionPool.from_url(url, timeout=timeout_ms / 1000, **options)
        client = Redis.from_pool(pool)
    client.response_callbacks.clear()
    return client
