"""Redis for a run: an embedded Valkey as development mode has it, a redis-server, or a cluster of three."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))

import pytest
from machine import BenchError
from redis import Redis

from pushserver.stores.embedded import EmbeddedValkey, embedded_url
from tests.engines.redis_cluster import RedisCluster
from tests.engines.redis_server import RedisServer, redis_program

__all__ = ["KINDS", "Engine", "found", "running_engine"]

KINDS = ("embedded", "server", "cluster")
LOOK_AT_ONCE = 5000
"""Keys that one command looks at."""
EVERY_SECOND = ("--appendfsync", "everysec")


class Engine:
    """A running Redis: its URL, and plain clients of its nodes; a cluster's share the slots in order."""

    def __init__(self, url: str, nodes: Sequence[str]) -> None:
        """Both are URLs; those of the nodes are what redis-py takes."""
        self.url = url
        self.nodes = nodes
        self.clients = [Redis.from_url(node) for node in nodes]

    def close(self) -> None:
        """Let go of the clients."""
        for client in self.clients:
            client.close()

    def version(self) -> str:
        """Its name and version."""
        info: Any = self.clients[0].info("server")
        name = info.get("server_name", "redis")
        return f"{name} {info.get('valkey_version') or info['redis_version']}"

    def keys(self) -> int:
        """Keys on all nodes, without those whose time is up: looking at them removes them."""
        for client in self.clients:
            for _ in client.scan_iter(count=LOOK_AT_ONCE):
                pass
        counts: list[Any] = [client.dbsize() for client in self.clients]
        return sum(counts)


def found(find: Callable[[], Path]) -> Path:
    """A program that tests look for in the same way. Raises `BenchError` where they are skipped."""
    try:
        return find()
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        raise BenchError(str(missing)) from None


@contextmanager
def running_engine(kind: str) -> Iterator[Engine]:
    """A fresh one, with an append-only file; gone with its data at the end. On this process' processor."""
    with _embedded() if kind == "embedded" else _servers(kind) as (url, nodes):
        engine = Engine(url, nodes)
        try:
            yield engine
        finally:
            engine.close()


@contextmanager
def _embedded() -> Iterator[tuple[str, list[str]]]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        valkey = EmbeddedValkey(Path(folder))
        valkey.start()
        try:
            yield embedded_url(Path(folder)), [embedded_url(Path(folder))]
        finally:
            valkey.stop()


@contextmanager
def _servers(kind: str) -> Iterator[tuple[str, list[str]]]:
    program = found(redis_program)
    servers = RedisServer(program, *EVERY_SECOND) if kind == "server" else RedisCluster(program)
    try:
        servers.start()
        yield servers.url, [f"redis://127.0.0.1:{port}" for port in servers.ports]
    finally:
        servers.remove()
