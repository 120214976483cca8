"""The consumer: exposures a second from the stream, or Google's emulator, into a database, and its CPU."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psycopg
from engines import found
from machine import SERVER, BenchError, cpu, pin, wait_for
from pods import plain_environ, settings
from scenario import Bench, Figure, Outcome

from pushserver.core.metrics import Metrics
from pushserver.exposure.event import Event, build_events, connection_part
from pushserver.exposure.pubsub_subscription import PubSubSubscription
from pushserver.exposure.pubsub_topic import PubSubTopic
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from pushserver.stores.exposure_stream import ExposureStream
from scenarios.sinks import SUBSCRIPTION, TOPIC
from tests.database.look import ask
from tests.engines.postgres import Postgres, postgres_programs
from tests.engines.pubsub_emulator import PubSubEmulator, emulator_program
from tests.exposure.examples import exposure


class Case(NamedTuple):
    """Where events come from and go to, and how many exposures are in each."""

    source: str
    database: str
    in_event: int

    @property
    def name(self) -> str:
        """Of its figures."""
        return f"{self.source}_{self.database}_{self.in_event}"

    @property
    def text(self) -> str:
        """In words."""
        events = "an event each" if self.in_event == 1 else f"{self.in_event} in an event"
        return f"{self.source} to {self.database}, {events}"


CASES = (
    Case("stream", "sqlite", 1),
    Case("stream", "sqlite", 100),
    Case("stream", "postgresql", 1),
    Case("stream", "postgresql", 100),
    Case("pubsub", "sqlite", 1),
)
FIGURES = tuple(
    figure
    for case in CASES
    for figure in (
        Figure(f"{case.name}_per_s", f"{case.text}: exposures a second", "/s", more_is_better=True),
        Figure(f"{case.name}_cpu_us", f"{case.text}: CPU of an exposure", "us"),
        Figure(f"{case.name}_mib", f"{case.text}: most memory", "MiB"),
    )
)


def run(bench: Bench) -> Outcome:
    """The events wait already when a consumer starts; what it is before the first commit is not counted."""
    outcome = Outcome()
    for case in CASES:
        with ExitStack() as stack:
            url = database(case, bench, stack)
            if case.source == "pubsub":
                flags = emulator(stack)
                exposures = bench.size(100_000, 1000)
            else:
                flags = settings(bench.engine.url)
                exposures = bench.size(200_000, 1000)
            asyncio.run(fill(bench, case, exposures))
            measure(outcome, case, [*flags, f"--set=consume.database_url={url}"], url, exposures)
    return outcome


def database(case: Case, bench: Bench, stack: ExitStack) -> str:
    """The URL of an empty one."""
    if case.database == "sqlite":
        return f"sqlite:///{bench.folder}/{case.name}.db"
    postgres = Postgres(found(postgres_programs))
    stack.callback(postgres.remove)
    postgres.start()
    url: str = postgres.new_database()
    return url


def emulator(stack: ExitStack) -> list[str]:
    """Start it, and let consumers and `fill` find it by the environment; flags of the consumer."""
    started = PubSubEmulator(found(emulator_program))
    stack.callback(started.stop)
    started.start()
    os.environ["PUBSUB_EMULATOR_HOST"] = started.host
    stack.callback(os.environ.pop, "PUBSUB_EMULATOR_HOST")
    return ["--set=consume.source=pubsub", f"--set=consume.subscription={SUBSCRIPTION}"]


async def fill(bench: Bench, case: Case, exposures: int) -> None:
    """Put the events where the consumer will read them."""
    events = make_events(exposures, case.in_event)
    if case.source == "stream":
        client = connect(bench.engine.url, timeout_ms=10_000, max_connections=2)
        commands = Commands(client, Metrics(), timeout_s=10)
        for start in range(0, len(events), 5000):
            stream = ExposureStream(commands, "ps:exposures", 10_000_000)
            await stream.add(events[start : start + 5000])
        await commands.close()
        await client.aclose()
        return
    host = os.environ["PUBSUB_EMULATOR_HOST"]
    subscription = PubSubSubscription(SUBSCRIPTION, TOPIC, emulator_host=host)
    await subscription.open()
    await subscription.close()
    topic = PubSubTopic(TOPIC, emulator_host=host)
    for start in range(0, len(events), 1000):
        await topic.publish(events[start : start + 1000])
    await topic.close()


def make_events(exposures: int, in_event: int) -> list[Event]:
    """Of 10 000 users with two categories."""
    parts = [
        connection_part(f"user-{n}", f"c-{n}", "203.0.113.9", {"vip": (str(n % 6),), "hall": (f"h{n % 9}",)})
        for n in range(10_000)
    ]
    now = int(time.time() * 1000)
    events: list[Event] = []
    for begin, end in pairwise(range(0, exposures + 1, in_event)):
        shown = [
            exposure(f"m-{begin}", "live", now, parts[n % 10_000], now + 5, now + 30, "pong")
            for n in range(begin, end)
        ]
        events += build_events(shown, "pod-1")
    return events


def measure(outcome: Outcome, case: Case, flags: list[str], url: str, exposures: int) -> None:
    """From the first commit to the last."""
    command = [sys.executable, "-m", "pushserver", "consume", *flags]
    process = subprocess.Popen(
        [*command, "--set=consume.port=0", "--set=logging.level=error"], env=plain_environ()
    )
    pin(process.pid, SERVER)
    try:
        while not (first := stored(url)):
            if process.poll() is not None:
                raise BenchError("the consumer ended")
            time.sleep(0.02)
        began, spent = time.monotonic(), cpu(process.pid)
        wait_for(lambda: stored(url) >= exposures, "all exposures in the database", 300)
        seconds, spent = time.monotonic() - began, cpu(process.pid) - spent
        rest = max(1, exposures - first)
        outcome.figures |= {
            f"{case.name}_per_s": rest / seconds,
            f"{case.name}_cpu_us": spent / rest * 1e6,
            f"{case.name}_mib": peak_mib(process.pid),
        }
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def stored(url: str) -> int:
    """How many; none while the consumer has made no table yet."""
    with suppress(sqlite3.OperationalError, psycopg.errors.UndefinedTable):
        return int(ask(url, "SELECT count(*) FROM exposures")[0][0])
    return 0


def peak_mib(pid: int) -> float:
    """Most resident memory so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
