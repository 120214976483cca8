#!/usr/bin/env python3
"""First figures of a pod, on a real redis-server: CPU per connect and per offline message, bytes idle.

    .venv/bin/python scripts/bench/figures.py [--runs 5] [--connections 5000] [--messages 20000]

The pod runs on one processor and this load generator with Redis on another, where there are two. CPU is
the pod's own (user and system, from /proc), Redis' and the load generator's not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from load import Load
from machine import SECRET, Engine, Pod, pushserver, wait_for
from redis import Redis

from pushserver.web.tokens import make_token


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


if __name__ == "__main__":
    main()
