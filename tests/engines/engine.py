"""What a test does with Redis, whether it is one server or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from redis import Redis
from redis.cluster import RedisCluster as ClusterClient
from redis.exceptions import RedisClusterException, RedisError

from tests.engines.redis_server import RedisServer

__all__ = ["AWAY", "Engine"]

AWAY = (RedisError, RedisClusterException)
"""What a plain client raises while Redis, or a node of it, does not run."""


class Engine(Protocol):
    """Redis as processes of the test run. What is done to it is done to each node; data outlive a restart."""

    @property
    def url(self) -> str:
        """Where clients connect to."""

    @property
    def nodes(self) -> Sequence[RedisServer]:
        """The processes: one, or those of the cluster."""

    @property
    def ports(self) -> list[int]:
        """The ports of the nodes; all of them have to go through a proxy that stands before Redis."""

    def client(self) -> Redis | ClusterClient:
        """A plain synchronous client that sees all keys. Of a cluster, raises `AWAY` if no node runs."""

    def start(self) -> None:
        """Start what does not run and wait until all of it answers."""

    def kill(self) -> None:
        """End it at once (kill -9); what the append-only file has stays."""

    def erase(self) -> None:
        """Delete its data; it must not run."""

    def freeze(self) -> None:
        """Let it hang: connections stay, nothing is answered."""

    def thaw(self) -> None:
        """Let it go on with whatever it was sent meanwhile."""
