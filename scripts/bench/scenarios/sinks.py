"""What an exposure event costs the pod by its sink, and how many a second get from there to the database."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from engines import found
from machine import LOAD, free_ports, pin, wait_for
from pods import plain_environ
from scenario import Bench, Figure, Outcome
from stored import Exposures

from scenarios.catchup import catch_up
from tests.engines.pubsub_emulator import PubSubEmulator, emulator_program

FIGURES = (
    Figure("none_cpu_us", "CPU of a message that waited, no exposures", "us"),
    Figure("stream_cpu_us", "CPU of it with an event in the stream", "us"),
    Figure("pubsub_cpu_us", "CPU of it with an event in Google's emulator", "us"),
    Figure("to_database_per_s", "events a second from there to SQLite", "/s", more_is_better=True),
)
TOPIC, SUBSCRIPTION = "projects/bench/topics/exposures", "projects/bench/subscriptions/exposures"


def run(bench: Bench) -> Outcome:
    """The messages of `catchup`, with each sink; with Pub/Sub a consumer stores the events meanwhile."""
    # Sooner than after half of it.
    program = found(emulator_program)
    outcome = Outcome()
    for sink in ("none", "stream"):
        with bench.pod(f"--set=exposure.sink={sink}") as pod:
            exposures = Exposures(bench.engine) if sink == "stream" else None
            outcome.figures[f"{sink}_cpu_us"] = catch_up(bench, pod, exposures)[0]
    flags = ("--set=exposure.sink=pubsub", f"--set=exposure.topic={TOPIC}")
    with emulated(program), consumer(bench.folder), bench.pod(*flags) as pod:
        cpu_us, per_s = catch_up(bench, pod, None)
        messages = bench.size(20_000, 100)
        began = time.monotonic() - messages / per_s
        wait_for(lambda: stored(bench.folder) >= messages, "the events in the database")
        outcome.figures["pubsub_cpu_us"] = cpu_us
        outcome.figures["to_database_per_s"] = messages / (time.monotonic() - began)
    return outcome


@contextmanager
def emulated(program: Path) -> Iterator[None]:
    """Google's emulator, which pods and consumers find by the environment."""
    emulator = PubSubEmulator(program)
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
    process = subprocess.Popen(command, cwd=folder, env=plain_environ(), stderr=subprocess.DEVNULL)
    pin(process.pid, LOAD)
    try:
        wait_for(lambda: ready(port), "the consumer's start")
        yield
    finally:
        process.terminate()
        process.wait()


def ready(port: int) -> bool:
    """Whether the consumer has tables and subscription."""
    with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def stored(folder: str) -> int:
    """Exposures in the database; -1 while it has no table."""
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"file:{folder}/x.db?mode=ro", uri=True)) as database,
    ):
        return int(database.execute("SELECT count(*) FROM exposures").fetchone()[0])
    return -1
