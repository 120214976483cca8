"""What benchmarks run on: engines and pods as processes, each on its own processor where there are two."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

SECRET = "a secret of the benchmark, long enough"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Engine:
    """A redis-server with an append-only file."""

    def __init__(self, folder: str) -> None:
        [self.port] = free_ports(1)
        program = shutil.which("redis-server") or sys.exit("needs redis-server")
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder]
        command += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        pin(self._process.pid, -1)

    def __enter__(self) -> Engine:
        def answers() -> bool:
            try:
                with Redis(port=self.port) as client:
                    return bool(client.ping())
            except RedisError:
                return False

        wait_for(answers)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


class Process:
    """A server that is measured."""

    port: int

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def answers(self) -> bool:
        """Whether it listens."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def end(self) -> None:
        """Ask it to leave, and wait."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def loop_cpu(self) -> float:
        """Seconds of processor time of the main thread so far, finer than `cpu`."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    def rss(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE


class Pod(Process):
    """A pod as users run it."""

    def __init__(self, redis: int | str, folder: str, *more: str, processor: int = 0) -> None:
        url = redis if isinstance(redis, str) else f"redis://127.0.0.1:{redis}"
        self.port, self.admin_port = free_ports(2)
        self.settings = [
            f"--set=redis.url={url}",
            f"--set=pod.name=pod-{self.port}",
            f"--set=auth.secret={SECRET}",
            f"--set=server.port={self.port}",
            f"--set=admin.port={self.admin_port}",
            "--set=limits.connections_per_ip=0",
            "--set=limits.handshakes_per_s=0",
            "--set=logging.level=warning",
            "--set=drain.spread_s=0",
            *more,
        ]
        super().__init__(
            subprocess.Popen([sys.executable, "-m", "pushserver", "serve", *self.settings], cwd=folder)
        )
        pin(self.pid, processor)

    def __enter__(self) -> Pod:
        wait_for(lambda: self._get("/readyz") is not None)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def stats(self) -> dict[str, Any]:
        """`GET /v1/stats`."""
        stats: dict[str, Any] = json.loads(self._get("/v1/stats") or "{}")
        return stats

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=5) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            return None


def pushserver(arguments: list[str], *, check: bool) -> None:
    """Run the program."""
    subprocess.run([sys.executable, "-m", "pushserver", *arguments], check=check)


def pin(pid: int, processor: int) -> None:
    """Keep a process on one processor, if there are several."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) > 1:
        os.sched_setaffinity(pid, {available[processor]})


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, all different."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def wait_for(condition: Callable[[], bool], within_s: float = 60) -> None:
    """Poll until true."""
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            sys.exit("gave up waiting")
        time.sleep(0.05)
