#!/usr/bin/env python3
"""Figures of publishing: to one user on two pods, batches to many users, a broadcast.

    .venv/bin/python scripts/bench/publishing.py [--cluster] [--connections 10000] [--messages 10000]

Latencies are from before the request until the last device has the frame. CPU is the pods' own; Redis' calls
are its own count (INFO commandstats, those inside scripts included).
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from load import Load
from machine import SECRET, Engine, Pod, wait_for
from redis import Redis

from pushserver.web.tokens import make_token

CONTENT = "x" * 150


def main() -> None:
    """Run the scenarios and print each result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cluster", action="store_true", help="three masters instead of one redis-server")
    parser.add_argument("--connections", type=int, default=10_000, help="for the broadcast")
    parser.add_argument("--messages", type=int, default=10_000, help="in the batch, to as many users")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, engine(folder, cluster=options.cluster) as (url, ports):
        for name, value in {
            **one_user(url, folder),
            **batch(url, folder, ports, options.messages),
            **broadcast(url, folder, ports, options.connections),
        }.items():
            print(f"{name} = {value:.2f}", flush=True)


@contextmanager
def engine(folder: str, *, cluster: bool) -> Iterator[tuple[str, list[int]]]:
    """A Redis, or a cluster: its URL, and the ports of its nodes."""
    if not cluster:
        with Engine(folder) as single:
            yield f"redis://127.0.0.1:{single.port}", [single.port]
        return
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.engines.redis_cluster import RedisCluster  # noqa: PLC0415 - needs pytest
    from tests.engines.redis_server import redis_program  # noqa: PLC0415 - as above

    nodes = RedisCluster(redis_program())
    nodes.start()
    try:
        yield nodes.url, [node.port for node in nodes.nodes]
    finally:
        nodes.remove()


def calls(ports: list[int]) -> int:
    """Commands that the nodes have run so far, those inside scripts included."""
    total = 0
    for port in ports:
        with Redis(port=port) as client:
            total += sum(one["calls"] for one in client.info("commandstats").values())
    return total


def tokens(names: list[str]) -> list[str]:
    """A token for each user."""
    return [make_token(SECRET.encode(), name, 3600, time.time()) for name in names]


class Api:
    """One kept connection to a pod's admin listener."""

    def __init__(self, pod: Pod) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", pod.admin_port, timeout=120)

    def post(self, path: str, body: bytes, content_type: str = "application/json") -> bytes:
        """The answer's body; fails on anything but success."""
        self._connection.request("POST", path, body, {"Content-Type": content_type})
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status not in {200, 202}:
            sys.exit(f"{answer.status}: {text[:300]!r}")
        return text


def one_user(url: str, folder: str, rounds: int = 200) -> dict[str, float]:
    """One user on two pods; published through either in turn."""
    with Pod(url, folder) as one, Pod(url, folder, processor=-1) as two:
        loads = [Load(pod.port) for pod in (one, two)]
        for load in loads:
            load.connect(tokens(["alice"]))
        apis, took = [Api(one), Api(two)], []
        body = json.dumps({"to": {"users": ["alice"]}, "content": CONTENT}).encode()
        for number in range(rounds):
            began = time.monotonic()
            apis[number % 2].post("/v1/messages", body)
            while any(load.messages <= number for load in loads):
                for load in loads:
                    load.turn(0.0002)
            took.append((time.monotonic() - began) * 1000)
            for load in loads:
                load.run(0.01)
        for load in loads:
            load.close()
    took.sort()
    return {"two_pods_p50_ms": statistics.median(took), "two_pods_p99_ms": took[int(rounds * 0.99)]}


def batch(url: str, folder: str, ports: list[int], messages: int) -> dict[str, float]:
    """A batch of messages, each to another user who is away."""
    lines = (
        json.dumps({"to": {"users": [f"away-{number}"]}, "content": CONTENT}) for number in range(messages)
    )
    body = "\n".join(lines).encode()
    with Pod(url, folder) as pod:
        api = Api(pod)
        api.post("/v1/messages/batch", body.split(b"\n", 1)[0], "application/x-ndjson")
        cpu, count, began = pod.cpu(), calls(ports), time.monotonic()
        answers = api.post("/v1/messages/batch", body, "application/x-ndjson").splitlines()
        took, spent, ran = time.monotonic() - began, pod.cpu() - cpu, calls(ports) - count
        if sum(json.loads(line)["status"] == 202 for line in answers) != messages:
            sys.exit(f"not all were accepted: {answers[:3]}")
    return {
        "batch_messages_per_s": messages / took,
        "batch_cpu_us": spent / messages * 1e6,
        "batch_redis_calls": ran / messages,
    }


def broadcast(url: str, folder: str, ports: list[int], connections: int) -> dict[str, float]:
    """One message to a category of as many live connections; medians of five."""
    names = [f"user-{number}" for number in range(connections)]
    with Pod(url, folder) as pod:
        load = Load(pod.port)
        load.connect(tokens(names))
        api, body = Api(pod), json.dumps({"to": {"everyone": True}, "content": CONTENT}).encode()
        took, spent, ran, confirmed = [], [], [], []
        for _ in range(5):
            due, cpu, count, began = load.messages + connections, pod.cpu(), calls(ports), time.monotonic()
            sender = threading.Thread(target=api.post, args=("/v1/messages", body))
            sender.start()
            while load.messages < due:
                load.turn(1.0)
            took.append((time.monotonic() - began) * 1000)
            spent.append((pod.cpu() - cpu) / connections * 1e6)
            ran.append(calls(ports) - count)
            sender.join()
            wait_for(lambda: quiet(pod, load))
            confirmed.append((pod.cpu() - cpu) / connections * 1e6)
        load.close()
    return {
        "broadcast_last_ms": statistics.median(took),
        "broadcast_cpu_us": statistics.median(spent),
        "broadcast_redis_calls": statistics.median(ran),
        "broadcast_confirmed_cpu_us": statistics.median(confirmed),
    }


def quiet(pod: Pod, load: Load) -> bool:
    """Whether everything was confirmed, exposed and written, clients going on answering."""
    load.run(3.0)
    stats = pod.stats()
    return not stats["settle_waiting"] and not stats["cursors_waiting"]


if __name__ == "__main__":
    main()
