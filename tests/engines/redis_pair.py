"""A redis-server with a replica, as processes of the test run; each may be killed, restarted, frozen."""

from __future__ import annotations

import time
from pathlib import Path

from tests.engines.redis_server import RedisServer

__all__ = ["RedisPair", "is_followed"]

READY_WITHIN_S = 30
_QUICK = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


class RedisPair:
    """A master and its replica on ports of 127.0.0.1."""

    def __init__(self, program: Path) -> None:
        self.master = RedisServer(program, *_QUICK)
        self.replica = RedisServer(program, *_QUICK, "--replicaof", f"127.0.0.1 {self.master.port}")

    @property
    def url(self) -> str:
        """Where clients connect to: the master."""
        return self.master.url

    def start(self) -> None:
        """Start what does not run, and wait until the replica follows."""
        self.master.start()
        self.replica.start()
        give_up = time.monotonic() + READY_WITHIN_S
        while not is_followed(self.master):
            assert time.monotonic() < give_up, "the replica does not follow"
            time.sleep(0.02)

    def thaw(self) -> None:
        """Let both go on."""
        self.master.thaw()
        self.replica.thaw()

    def remove(self) -> None:
        """Stop them and delete their data."""
        self.replica.remove()
        self.master.remove()


def is_followed(master: RedisServer) -> bool:
    """Whether a replica has all that the master has, and gets what it gets."""
    with master.client() as redis:
        replicas = redis.info("replication")
    return bool(replicas.get("slave0", {}).get("state") == "online")
