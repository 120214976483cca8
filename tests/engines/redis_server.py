"""A redis-server as a process of the test run, which can be killed, restarted, frozen and emptied."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from tests.engines.ports import free_port

__all__ = ["CLUSTER_FILE", "RedisServer", "redis_program"]

START_WITHIN_S = 20
CLUSTER_FILE = "nodes.conf"
"""What a node knows of its cluster."""


def redis_program() -> Path:
    """The redis-server program; without one the test is skipped, or fails where CI=true."""
    found = shutil.which("redis-server")
    if found:
        return Path(found)
    reason = "needs redis-server (apt install redis-server)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


class RedisServer:
    """redis-server on a port of 127.0.0.1 with an append-only file; port and data outlive a restart."""

    def __init__(self, program: Path, *options: str) -> None:
        self._program = program
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def nodes(self) -> list[RedisServer]:
        """It alone."""
        return [self]

    @property
    def ports(self) -> list[int]:
        """Its port."""
        return [self.port]

    def client(self) -> Redis:
        """A plain synchronous client, to look at what is really there."""
        return Redis(port=self.port, decode_responses=True, socket_timeout=5)

    def version(self) -> tuple[int, int]:
        """Major and minor."""
        with self.client() as client:
            major, minor, *_ = client.info("server")["redis_version"].split(".")
        return int(major), int(minor)

    def start(self) -> None:
        """Start it and wait until it answers. Twice is once."""
        if self._process is not None:
            return
        self._process = subprocess.Popen(
            self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )
        give_up = time.monotonic() + START_WITHIN_S
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended"
            assert time.monotonic() < give_up, "redis-server does not answer"

    def _command(self) -> list[str]:
        return [
            *(str(self._program), *self._listen(), "--bind", "127.0.0.1", "--dir", self._folder.name),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", ""),
            *("--enable-debug-command", "yes", *self._options),
        ]

    def _listen(self) -> tuple[str, ...]:
        return ("--port", str(self.port))

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (RedisConnectionError, RedisError):
            time.sleep(0.01)
            return False

    def kill(self) -> None:
        """End it at once (kill -9); what the append-only file has stays."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it orderly. Twice is once."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, number)
        process.wait(10)

    def erase(self) -> None:
        """Delete its data; it must not run. A node of a cluster stays one."""
        assert self._process is None
        for path in Path(self._folder.name).iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != CLUSTER_FILE:
                path.unlink()

    def freeze(self) -> None:
        """Let it hang: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on with whatever it was sent meanwhile."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)

    def remove(self) -> None:
        """End it and delete its data."""
        # Not orderly: a replica that just began to follow would not go before its file is written.
        self.kill()
        self._folder.cleanup()
