#!/usr/bin/env python3
"""First figures of a pod, on a real redis-server: CPU per connect and per offline message, bytes idle.

    .venv/bin/python scripts/bench/figures.py [--runs 5] [--connections 5000] [--messages 20000]

The pod runs on one processor and this load generator with Redis on another, where there are two. CPU is
the pod's own (user and system, from /proc), Redis' and the load generator's not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from load import Load
from redis import Redis
from redis.exceptions import RedisError

from pushserver.web.tokens import make_token

SECRET = "a secret of the benchmark, long enough"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run the scenarios, print each result, and the medians as JSON at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--messages", type=int, default=20_000, help="for 20 users in equal shares")
    options = parser.parse_args()
    results: dict[str, list[float]] = {}
    for run in range(options.runs):
        for name, value in one_run(options.connections, options.messages).items():
            results.setdefault(name, []).append(value)
            print(f"run {run + 1}: {name} = {value:.1f}", flush=True)
    summary = {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in results.items()
    }
    print(json.dumps(summary, indent=2))


def one_run(connections: int, messages: int) -> dict[str, float]:
    """A fresh Redis and a fresh pod for each run."""
    with tempfile.TemporaryDirectory() as folder, Engine(folder) as engine:
        with Pod(engine.port, folder) as pod:
            figures = measure_connects(pod, connections)
        with Pod(engine.port, folder) as pod:
            figures |= measure_catch_up(pod, engine.port, messages, users=20)
    return figures


def measure_connects(pod: Pod, connections: int) -> dict[str, float]:
    """CPU for each verified connect to its `live` frame; memory of an idle one."""
    tokens = [make_token(SECRET.encode(), f"user-{n}", 3600, time.time()) for n in range(connections)]
    # What the first connects load and allocate is no connection's.
    warm = Load(pod.port)
    warm.connect([make_token(SECRET.encode(), f"warm-{n}", 3600, time.time()) for n in range(200)])
    warm.close()
    wait_for(lambda: pod.stats()["connections"] == 0)
    load = Load(pod.port)
    rss, cpu, began = pod.rss(), pod.cpu(), time.monotonic()
    load.connect(tokens)
    took = time.monotonic() - began
    spent = pod.cpu() - cpu
    load.run(3.0)
    figures = {
        "connect_cpu_us": spent / connections * 1e6,
        "connects_per_s": connections / took,
        "idle_rss_bytes": (pod.rss() - rss) / connections,
    }
    load.close()
    wait_for(lambda: pod.stats()["connections"] == 0)
    return figures


def measure_catch_up(pod: Pod, redis_port: int, messages: int, users: int) -> dict[str, float]:
    """CPU for each message that waited: delivered, confirmed, exposed to the stream, settled."""
    names = [f"reader-{n}" for n in range(users)]
    share = messages // users
    seed = ["seed", *names, "--count", str(share), "--text", "x" * 150, *pod.settings]
    pushserver(seed, check=True)
    load = Load(pod.port)
    cpu, began = pod.cpu(), time.monotonic()
    load.connect([make_token(SECRET.encode(), name, 3600, time.time()) for name in names])
    while load.messages < messages:
        load.turn(1.0)
    while not settled(pod, redis_port, names):
        load.run(0.05)
    took, spent = time.monotonic() - began, pod.cpu() - cpu
    load.close()
    return {"message_cpu_us": spent / messages * 1e6, "messages_per_s": messages / took}


def settled(pod: Pod, redis_port: int, names: list[str]) -> bool:
    """Whether every inbox is empty."""
    with Redis(port=redis_port) as client:
        return not any(client.llen(f"ps:inbox:{{{name}}}") for name in names)


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


class Pod:
    """A pod as users run it."""

    def __init__(self, redis_port: int, folder: str) -> None:
        self.port, self.admin_port = free_ports(2)
        self.settings = [
            f"--set=redis.url=redis://127.0.0.1:{redis_port}",
            f"--set=auth.secret={SECRET}",
            f"--set=server.port={self.port}",
            f"--set=admin.port={self.admin_port}",
            "--set=limits.connections_per_ip=0",
            "--set=limits.handshakes_per_s=0",
            "--set=logging.level=warning",
            "--set=drain.spread_s=0",
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pushserver", "serve", *self.settings], cwd=folder
        )
        pin(self._process.pid, 0)

    def __enter__(self) -> Pod:
        wait_for(lambda: self._get("/readyz") is not None)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

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

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * PAGE


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


if __name__ == "__main__":
    main()
