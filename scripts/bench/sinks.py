#!/usr/bin/env python3
"""What an exposure event costs the pod by its sink, and how many a second get from there to the database.

    .venv/bin/python scripts/bench/sinks.py [--runs 3] [--messages 20000]

Messages wait for 20 users, who connect at once and confirm all of them: one event each. A sink's cost is the
difference to the same without one. With Pub/Sub a consumer stores them in SQLite meanwhile. The pod is on one
processor, all else on the other.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from figures import measure_catch_up
from machine import Engine, Pod, free_ports, pin, wait_for

from tests.engines.pubsub_emulator import PubSubEmulator, emulator_program

TOPIC, SUBSCRIPTION = "projects/bench/topics/exposures", "projects/bench/subscriptions/exposures"
TO = {
    "none": ["--set=exposure.sink=none"],
    "stream": ["--set=exposure.sink=stream"],
    "pubsub": ["--set=exposure.sink=pubsub", f"--set=exposure.topic={TOPIC}"],
}


def main() -> None:
    """Each sink in turn, some times; medians as JSON at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--messages", type=int, default=20_000)
    options = parser.parse_args()
    results: dict[str, list[float]] = {}
    for run in range(options.runs):
        for sink in TO:
            for name, value in one_run(sink, options.messages).items():
                results.setdefault(name, []).append(value)
                print(f"run {run + 1}: {name} = {value:.1f}", flush=True)
    print(json.dumps({name: statistics.median(values) for name, values in results.items()}, indent=2))


def one_run(sink: str, messages: int) -> dict[str, float]:
    """The pod's CPU for a message; with Pub/Sub also how many a second came to the database."""
    with tempfile.TemporaryDirectory() as folder, Engine(folder) as engine:
        if sink != "pubsub":
            with Pod(engine.port, folder, *TO[sink]) as pod:
                return {f"{sink}_cpu_us": measure_catch_up(pod, engine.port, messages, 20)["message_cpu_us"]}
        with emulated(), consumer(folder), Pod(engine.port, folder, *TO[sink]) as pod:
            figures = measure_catch_up(pod, engine.port, messages, 20)
            began = time.monotonic() - messages / figures["messages_per_s"]
            wait_for(lambda: stored(folder) >= messages)
            took = time.monotonic() - began
            return {f"{sink}_cpu_us": figures["message_cpu_us"], "to_database_per_s": messages / took}


@contextmanager
def emulated() -> Iterator[None]:
    """Google's emulator, which pods and consumers find by the environment."""
    emulator = PubSubEmulator(emulator_program())
    emulator.start()
    os.environ["PUBSUB_EMULATOR_HOST"] = emulator.host
    try:
        yield
    finally:
        del os.environ["PUBSUB_EMULATOR_HOST"]
        emulator.stop()


@contextmanager
def consumer(folder: str) -> Iterator[None]:
    """A consumer that is ready."""
    [port] = free_ports(1)
    settings = [f"--set=consume.subscription={SUBSCRIPTION}", f"--set=exposure.topic={TOPIC}"]
    settings += [f"--set=consume.database_url=sqlite:///{folder}/x.db", f"--set=consume.port={port}"]
    command = [sys.executable, "-m", "pushserver", "consume", "--set=consume.source=pubsub", *settings]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    pin(process.pid, -1)
    try:
        wait_for(lambda: stored(folder) == 0)
        # The subscription is made after the tables.
        time.sleep(2)
        yield
    finally:
        process.terminate()
        process.wait()


def stored(folder: str) -> int:
    """Exposures in the database; -1 while it has no table."""
    with suppress(sqlite3.Error):
        database = sqlite3.connect(f"file:{folder}/x.db?mode=ro", uri=True)
        try:
            count: int = database.execute("SELECT count(*) FROM exposures").fetchone()[0]
            return count
        finally:
            database.close()
    return -1


if __name__ == "__main__":
    main()
