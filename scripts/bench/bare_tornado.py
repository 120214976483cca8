#!/usr/bin/env python3
"""What a connect costs a pod, beside what it costs a bare Tornado WebSocket server in the same minutes.

    .venv/bin/python scripts/bench/bare_tornado.py [--runs 3] [--connections 5000]

The bare server verifies nobody, knows no Redis, writes one frame and echoes. Absolute times differ from hour
to hour and from machine to machine; their ratio does so far less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from figures import measure_connects
from load import Load
from machine import Engine, Pod, Process, free_ports, pin, wait_for
from tornado.httpserver import HTTPServer
from tornado.web import Application
from tornado.websocket import WebSocketHandler


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


def measure_bare(connections: int) -> float:
    """CPU for each connect, in microseconds."""
    with Bare() as bare:
        warm = Load(bare.port)
        warm.connect([""] * 200)
        warm.close()
        load = Load(bare.port)
        cpu = bare.cpu()
        load.connect([""] * connections)
        spent = bare.cpu() - cpu
        load.close()
    return spent / connections * 1e6


def measure_pod(connections: int) -> float:
    """CPU for each verified connect to its `live` frame, in microseconds."""
    with tempfile.TemporaryDirectory() as folder, Engine(folder) as engine, Pod(engine.port, folder) as pod:
        return measure_connects(pod, connections)["connect_cpu_us"]


def main() -> None:
    """Measure in turns; print each run, and medians and their ratio at the end."""
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
    bare, pod = [], []
    for run in range(options.runs):
        bare.append(measure_bare(options.connections))
        pod.append(measure_pod(options.connections))
        print(f"run {run + 1}: bare Tornado {bare[-1]:.0f} us, pod {pod[-1]:.0f} us", flush=True)
    medians = {"bare_us": statistics.median(bare), "pod_us": statistics.median(pod)}
    print(json.dumps({**medians, "ratio": medians["pod_us"] / medians["bare_us"]}, indent=2))


if __name__ == "__main__":
    main()
