"""Redis for a run: an embedded Valkey as development mode has it, a redis-server, or a cluster of three."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))

from redis import Redis

from pushserver.stores.embedded import EmbeddedValkey, embedded_url
from tests.engines.redis_cluster import RedisCluster
from tests.engines.redis_server import RedisServer, redis_program

__all__ = ["KINDS", "Engine", "running_engine"]

KINDS = ("embedded", "server", "cluster")
EVERY_SECOND = ("--appendfsync", "everysec")


@dataclass(frozen=True)
class Engine:
    """A running Redis: its URL, and how to reach its nodes."""

    url: str
    nodes: Sequence[dict[str, str | int]]
    """What `redis.Redis` takes, node by node; a cluster's share the slots evenly, in order."""

    def clients(self) -> list[Redis]:
        """A plain client of each node."""
        return [Redis(**node) for node in self.nodes]  # type: ignore[arg-type]

    def version(self) -> str:
        """Its name and version."""
        [first, *_] = self.clients()
        with first as client:
            info = client.info("server")
        name = info.get("server_name", "redis")
        return f"{name} {info.get('valkey_version') or info['redis_version']}"

    def keys(self) -> int:
        """Keys on all nodes."""
        return sum(int(client.dbsize()) for client in self.clients())  # type: ignore[arg-type]


@contextmanager
def running_engine(kind: str) -> Iterator[Engine]:
    """A fresh one, with an append-only file; gone with its data at the end. On this process' processor."""
    if kind == "embedded":
        with _embedded() as engine:
            yield engine
        return
    servers = (
        RedisServer(redis_program(), *EVERY_SECOND) if kind == "server" else RedisCluster(redis_program())
    )
    try:
        servers.start()
        yield Engine(servers.url, [{"host": "127.0.0.1", "port": port} for port in servers.ports])
    finally:
        servers.remove()


@contextmanager
def _embedded() -> Iterator[Engine]:
    with tempfile.TemporaryDirectory(prefix=f"bench-{os.getpid()}-") as folder:
        valkey = EmbeddedValkey(Path(folder))
        valkey.start()
        try:
            yield Engine(embedded_url(Path(folder)), [{"unix_socket_path": f"{folder}/valkey.sock"}])
        finally:
            valkey.stop()
