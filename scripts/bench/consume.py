#!/usr/bin/env python3
"""Figures of the consumer: exposures a second from the stream, or Google's emulator, and CPU for each.

    .venv/bin/python scripts/bench/consume.py [--exposures 200000] [--in-event 1] [--source stream|pubsub]
        [--database sqlite|postgresql]

The events wait already when the consumer starts; CPU is the consumer's own process (user and system, from
/proc), without its start. Engines are those of the tests: redis-server, the emulator, PostgreSQL.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import psycopg

from pushserver.core.metrics import Metrics
from pushserver.exposure.event import Event, Exposure, build_events, connection_part
from pushserver.exposure.pubsub_subscription import PubSubSubscription
from pushserver.exposure.pubsub_topic import PubSubTopic
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from pushserver.stores.exposure_stream import ExposureStream
from tests.database.look import ask
from tests.engines.postgres import Postgres, postgres_programs
from tests.engines.pubsub_emulator import PubSubEmulator, emulator_program
from tests.engines.redis_server import RedisServer, redis_program

TICKS = os.sysconf("SC_CLK_TCK")
TOPIC, SUBSCRIPTION = "projects/bench/topics/exposures", "projects/bench/subscriptions/exposures"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--exposures", type=int, default=200_000)
    parser.add_argument("--in-event", type=int, default=1, help="exposures in each event")
    parser.add_argument("--source", choices=["stream", "pubsub"], default="stream")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engine = (
            RedisServer(redis_program()) if options.source == "stream" else PubSubEmulator(emulator_program())
        )
        postgres = Postgres(postgres_programs()) if options.database == "postgresql" else None
        try:
            engine.start()
            if postgres is not None:
                postgres.start()
            url = postgres.new_database() if postgres else f"sqlite:///{folder}/exposures.db"
            events = make_events(options.exposures, options.in_event)
            asyncio.run(fill(engine, events))
            measure(engine, url, options.exposures)
        finally:
            engine.stop()
            if postgres is not None:
                postgres.remove()


def make_events(exposures: int, in_event: int) -> list[Event]:
    parts = [
        connection_part(f"user-{n}", f"c-{n}", "203.0.113.9", {"vip": (str(n % 6),), "hall": (f"h{n % 9}",)})
        for n in range(10_000)
    ]
    now = int(time.time() * 1000)
    events: list[Event] = []
    for number in range(exposures // in_event):
        shown = [
            Exposure(
                f"m-{number}", "live", now, parts[(number * in_event + n) % 10_000], now + 5, now + 30, "pong"
            )
            for n in range(in_event)
        ]
        events += build_events(shown, "pod-1")
    return events


async def fill(engine: RedisServer | PubSubEmulator, events: list[Event]) -> None:
    if isinstance(engine, RedisServer):
        client = connect(engine.url, timeout_ms=10_000, max_connections=2)
        commands = Commands(client, Metrics(), timeout_s=10)
        for start in range(0, len(events), 5000):
            await ExposureStream(commands, "ps:exposures", 10_000_000).add(events[start : start + 5000])
        await commands.close()
        await client.aclose()
        return
    subscription = PubSubSubscription(SUBSCRIPTION, TOPIC, emulator_host=engine.host)
    await subscription.open()
    await subscription.close()
    topic = PubSubTopic(TOPIC, emulator_host=engine.host)
    for start in range(0, len(events), 1000):
        await topic.publish(events[start : start + 1000])
    await topic.close()


def measure(engine: RedisServer | PubSubEmulator, url: str, exposures: int) -> None:
    command = [sys.executable, "-m", "pushserver", "consume", f"--set=consume.database_url={url}"]
    command += ["--set=consume.port=0", "--set=logging.level=error"]
    environ = dict(os.environ)
    if isinstance(engine, RedisServer):
        command += [f"--set=redis.url={engine.url}", "--set=auth.secret=" + "x" * 32]
    else:
        command += ["--set=consume.source=pubsub", f"--set=consume.subscription={SUBSCRIPTION}"]
        environ["PUBSUB_EMULATOR_HOST"] = engine.host
    process = subprocess.Popen(command, env=environ)
    try:
        began, cpu = time.monotonic(), 0.0
        first = 0
        while not first:
            began, cpu, first = time.monotonic(), cpu_of(process.pid), stored(url)
            time.sleep(0.02)
        while stored(url) < exposures:
            assert process.poll() is None, "the consumer ended"
            time.sleep(0.05)
        seconds, spent = time.monotonic() - began, cpu_of(process.pid) - cpu
        rest = exposures - first
        peak = peak_of(process.pid)
        print(f"{rest / seconds:.0f} exposures/s, {spent / rest * 1e6:.1f} us of CPU each, peak {peak} MiB")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def stored(url: str) -> int:
    """How many; none while the consumer has made no table yet."""
    with suppress(sqlite3.OperationalError, psycopg.errors.UndefinedTable):
        return int(ask(url, "SELECT count(*) FROM exposures")[0][0])
    return 0


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024


if __name__ == "__main__":
    main()
