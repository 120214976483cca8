"""Pods as users run them, as processes, and what is asked of them over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from machine import LOAD, SERVER, BenchError, cpu, free_ports, pin, rss, unpin, wait_for

__all__ = ["SECRET", "Pod", "Samples", "one_message", "plain_environ", "pushserver", "quantile", "settings"]

SECRET = "a secret of the benchmark, long enough"
SAMPLE = re.compile(r"^(pushserver_\w+)(\{[^}]*\})? (\S+)$", re.MULTILINE)
Samples = dict[str, float]
"""What `/metrics` says: names, those with labels as `name{label="value"}`."""


def settings(redis_url: str, *more: str) -> list[str]:
    """Flags of every pod: everything is on, and all come from one address."""
    return [
        f"--set=redis.url={redis_url}",
        f"--set=auth.secret={SECRET}",
        "--set=limits.connections_per_ip=0",
        "--set=limits.handshakes_per_s=0",
        "--set=logging.level=warning",
        "--set=drain.spread_s=0",
        *more,
    ]


def plain_environ() -> dict[str, str]:
    """This process', without what the developer set for a pod of their own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PUSHSERVER_")}


class Pod:
    """A running pod, on the first processor. Ended in order at the end of its context.

    It starts when it is made, wherever there is room, so several start together.
    """

    def __init__(self, redis_url: str, folder: str, *more: str) -> None:
        self.port, self.admin_port = free_ports(2)
        ports = (f"--set=server.port={self.port}", f"--set=admin.port={self.admin_port}")
        command = [sys.executable, "-m", "pushserver", "serve", f"--set=pod.name=pod-{self.port}", *ports]
        self._process = subprocess.Popen(
            [*command, *settings(redis_url, *more)],
            cwd=folder,
            env=plain_environ(),
            preexec_fn=unpin,  # noqa: PLW1509 - no thread of this process runs
        )
        self._admin = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=120)
        self.pid = self._process.pid

    def __enter__(self) -> Pod:
        wait_for(self._ready, "the pod's start")
        pin(self.pid, SERVER)
        return self

    def __exit__(self, *_: object) -> None:
        self._admin.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once (kill -9)."""
        self._process.kill()
        self._process.wait()

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise BenchError("the pod ended at its start")
        try:
            return self._ask("GET", "/readyz")[0] == 200
        except OSError:
            self._admin.close()
            return False

    def _ask(self, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, bytes]:
        self._admin.request(method, path, body or None, {"Content-Type": kind} if kind else {})
        answer = self._admin.getresponse()
        return answer.status, answer.read()

    # -- what it used

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return cpu(self.pid)

    @property
    def rss(self) -> int:
        """Resident bytes."""
        return rss(self.pid)

    # -- what it says

    def stats(self) -> dict[str, Any]:
        """`GET /v1/stats`."""
        stats: dict[str, Any] = json.loads(self._ask("GET", "/v1/stats")[1])
        return stats

    def metrics(self) -> Samples:
        """`GET /metrics`. It begins a new period of the longest turns of the loop."""
        text = self._ask("GET", "/metrics")[1].decode()
        return {name + labels: float(value) for name, labels, value in SAMPLE.findall(text)}

    # -- publishing

    def publish(self, message: bytes) -> None:
        """`POST /v1/messages`. Raises `BenchError` unless it was accepted."""
        status, text = self._ask("POST", "/v1/messages", message, "application/json")
        if status != 202:
            raise BenchError(f"a message was answered {status}: {text[:200]!r}")

    def publish_batch(self, messages: Sequence[bytes]) -> None:
        """`POST /v1/messages/batch`. Raises `BenchError` unless all were accepted."""
        text = self._ask("POST", "/v1/messages/batch", b"\n".join(messages), "application/x-ndjson")[1]
        accepted = text.count(b'"status":202')
        if accepted != len(messages):
            raise BenchError(f"{accepted} of {len(messages)} were accepted: {text[:200]!r}")


def quantile(samples: Sequence[tuple[Samples, Samples]], name: str, share: float) -> float:
    """Of a histogram's observations between two scrapes, of several pods, the one above `share` of them.

    As Prometheus reckons it, evenly within a bucket. Nothing was observed: 0.
    """
    counts: dict[float, float] = {}
    for before, after in samples:
        for key, value in after.items():
            if key.startswith(f'{name}_bucket{{le="'):
                bound = float(key.split('"')[1])
                counts[bound] = counts.get(bound, 0.0) + value - before.get(key, 0.0)
    bounds = sorted(counts)
    wanted = share * counts[bounds[-1]] if bounds else 0.0
    below, low = 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= wanted > 0:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (wanted - below) / (counts[bound] - below)
        below, low = counts[bound], bound
    return 0.0


def one_message(to: dict[str, Any], content: str = "x" * 150, **fields: Any) -> bytes:
    """A message as the API takes it; `fields` of its content come last."""
    return json.dumps({"to": to, "content": {"text": content, **fields}}, separators=(",", ":")).encode()


def pushserver(arguments: Sequence[str]) -> None:
    """Run the program, beside the load."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pushserver", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=plain_environ(),
    )
    pin(process.pid, LOAD)
    if process.wait() != 0:
        raise BenchError(f"pushserver {arguments[0]} failed")
