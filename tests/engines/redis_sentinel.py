"""A master, a replica and three sentinels that watch over them, as processes of the test run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError

from tests.engines.redis_pair import RedisPair, is_followed
from tests.engines.redis_server import RedisServer

__all__ = ["SERVICE", "RedisSentinels"]

SERVICE = "pushserver"
SENTINELS = 3
READY_WITHIN_S = 30


class RedisSentinels:
    """Who is master changes with each failover, which takes three to five seconds."""

    def __init__(self, program: Path) -> None:
        self._pair = RedisPair(program)
        self.sentinels = [_Sentinel(program, self._pair.master.port) for _ in range(SENTINELS)]

    @property
    def url(self) -> str:
        """Where clients connect to: the sentinels."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def servers(self) -> list[RedisServer]:
        """Both that hold data."""
        return [self._pair.master, self._pair.replica]

    def master(self) -> RedisServer:
        """Who is the master, by the sentinel that knows of the latest failover."""
        seen = [sentinel.sees() for sentinel in self.sentinels]
        port = int(max(seen, key=lambda one: int(one["config-epoch"]))["port"])
        return next(server for server in self.servers if server.port == port)

    def replica(self) -> RedisServer:
        """The other."""
        master = self.master()
        return next(server for server in self.servers if server is not master)

    def fail_over(self) -> None:
        """Let the replica take over while the master is well. Returns before it has."""
        give_up = time.monotonic() + READY_WITHIN_S
        with self.sentinels[0].client() as redis:
            while True:
                try:
                    redis.execute_command("SENTINEL", "FAILOVER", SERVICE)
                except ResponseError:  # what it knows of the replica is old
                    assert time.monotonic() < give_up, "no sentinel begins a failover"
                    time.sleep(0.05)
                else:
                    return

    def start(self) -> None:
        """Start what does not run, and wait until all is as it was before anything was killed."""
        for process in (*self.servers, *self.sentinels):
            process.start()
        self._follow()
        give_up = time.monotonic() + READY_WITHIN_S
        while not self._steady():
            assert time.monotonic() < give_up, "the sentinels do not agree"
            time.sleep(0.05)

    def _follow(self) -> None:
        """Make a master that was killed a replica at once: sentinels take some eight seconds for it."""
        master, replica = self.master(), self.replica()
        with replica.client() as redis:
            if redis.role()[0] == "master":
                redis.execute_command("REPLICAOF", "127.0.0.1", master.port)

    def _steady(self) -> bool:
        seen = [sentinel.sees() for sentinel in self.sentinels]
        return (
            len({one["port"] for one in seen}) == 1
            and all(one["flags"] == "master" for one in seen)
            and all(int(one["num-other-sentinels"]) == SENTINELS - 1 for one in seen)
            and all(sentinel.sees_replica() for sentinel in self.sentinels)
            and is_followed(self.master())
        )

    def thaw(self) -> None:
        """Let everything go on."""
        for process in (*self.servers, *self.sentinels):
            process.thaw()

    def remove(self) -> None:
        """Stop everything and delete the data."""
        for sentinel in self.sentinels:
            sentinel.remove()
        self._pair.remove()


class _Sentinel(RedisServer):
    def __init__(self, program: Path, master_port: int) -> None:
        super().__init__(program)
        self._conf = Path(self._folder.name) / "sentinel.conf"
        # Sentinels keep what they learn in this file.
        self._conf.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self._folder.name}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master_port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} 1500\n"
            f"sentinel failover-timeout {SERVICE} 2000\n"
        )

    def _command(self) -> list[str]:
        return [str(self._program), str(self._conf), "--sentinel"]

    def sees(self) -> dict[str, str]:
        """What it knows of the master."""
        return _fields(self._ask("SENTINEL", "MASTER", SERVICE))

    def sees_replica(self) -> bool:
        """Whether it knows the replica, and that it is up."""
        replicas = [_fields(one) for one in self._ask("SENTINEL", "REPLICAS", SERVICE)]
        return [one["flags"] for one in replicas] == ["slave"]

    def _ask(self, *command: str) -> Any:
        with Redis(port=self.port, protocol=2, decode_responses=True, socket_timeout=5) as redis:
            redis.response_callbacks.clear()
            return redis.execute_command(*command)


def _fields(answer: list[str]) -> dict[str, str]:
    return dict(zip(answer[::2], answer[1::2], strict=True))
