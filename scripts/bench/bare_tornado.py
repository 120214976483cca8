#!/usr/bin/env python3
"""What a connect costs a pod, beside what it costs a bare Tornado WebSocket server in the same minutes.

    .venv/bin/python scripts/bench/bare_tornado.py [--runs 3] [--connections 5000]

The bare server verifies nobody, knows no Redis, writes one frame and echoes. Absolute times differ from hour
to hour and from machine to machine; their ratio does so far less. Connects come in bursts, and each burst is
measured by itself (the CPU time of the loop's thread): the median is of a machine with other things to do,
the quickest tenth of one that has none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from load import Load
from machine import SECRET, Engine, Pod, Process, free_ports, pin, wait_for
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from pushserver.web.tokens import make_token

BURST = 250


class Echo(WebSocketHandler):
    """Says `live` at once, as the load generator waits for it, and echoes."""

    def open(self, *_args: str, **_kwargs: str) -> None:
        """One frame."""
        self.write_message('{"type":"live"}')

    def on_message(self, message: str | bytes) -> None:
        """Echo."""
        self.write_message(message)


async def serve(port: int) -> None:
    """Until killed."""
    HTTPServer(Application([("/ws", Echo)], log_function=lambda _handler: None)).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


class Bare(Process):
    """The bare server as a process."""

    def __init__(self) -> None:
        [self.port] = free_ports(1)
        super().__init__(subprocess.Popen([sys.executable, __file__, "--serve", str(self.port)]))
        pin(self.pid, 0)

    def __enter__(self) -> Bare:
        wait_for(self.answers)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def burst_costs(server: Process, tokens: Sequence[str]) -> list[float]:
    """CPU of each connect to its `live` frame, in microseconds, burst by burst. All stay until the end."""
    load = Load(server.port)
    costs = []
    for start in range(0, len(tokens), BURST):
        some = tokens[start : start + BURST]
        before = server.loop_cpu()
        load.connect(some)
        costs.append((server.loop_cpu() - before) / len(some) * 1e6)
    load.close()
    # What the first load and allocate is no connection's.
    return costs[1:]


def measure_bare(connections: int) -> list[float]:
    """The bare server's."""
    with Bare() as bare:
        return burst_costs(bare, [""] * connections)


def measure_pod(connections: int) -> list[float]:
    """A pod's, each connect verified, with everything on."""
    tokens = [make_token(SECRET.encode(), f"user-{n}", 3600, time.time()) for n in range(connections)]
    with tempfile.TemporaryDirectory() as folder, Engine(folder) as engine, Pod(engine.port, folder) as pod:
        return burst_costs(pod, tokens)


def main() -> None:
    """Measure in turns; print each run, and what comes of all at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    costs: dict[str, list[float]] = {"bare": [], "pod": []}
    for run in range(options.runs):
        for name, measure in (("bare", measure_bare), ("pod", measure_pod)):
            some = measure(options.connections)
            costs[name] += some
            print(f"run {run + 1}: {name} {summary(some)}", flush=True)
    ratios = {
        how: round(value / summary(costs["bare"])[how], 2) for how, value in summary(costs["pod"]).items()
    }
    print(json.dumps({**{name: summary(some) for name, some in costs.items()}, "ratio": ratios}, indent=2))


def summary(costs: list[float]) -> dict[str, int]:
    """In microseconds; `quick` is what a tenth of the bursts stays below."""
    quick = sorted(costs)[len(costs) // 10]
    return {
        "quick": round(quick),
        "median": round(statistics.median(costs)),
        "mean": round(statistics.mean(costs)),
    }


if __name__ == "__main__":
    main()
