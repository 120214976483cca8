"""Reconciling publishes with exposures: how long it takes, and its memory."""

from __future__ import annotations

import resource
import time
from typing import Any

from apart import run_apart
from engines import Engine
from pods import SECRET
from scenario import Bench, Figure, Outcome
from stored import client_of, insert

from pushserver.backend import open_backend
from pushserver.cli.reconcile import exposed_users
from pushserver.config import Settings
from pushserver.database.database import Database
from pushserver.exposure.event import connection_part
from pushserver.reconcile import Reconciler
from tests.database.look import records
from tests.exposure.examples import exposure
from tests.texts import to_users

FIGURES = (
    Figure("s", "50 messages to 10 000 users each, four of five exposed, the others waiting", "s"),
    Figure("cpu_s", "CPU of it", "s"),
    Figure("mib", "memory of it", "MiB"),
    Figure("record_bytes", "record of a message in Redis", "B"),
)


def run(bench: Bench) -> Outcome:
    """In a process of its own; the database is SQLite."""
    url = f"sqlite:///{bench.folder}/exposures.db"
    return Outcome(
        run_apart(
            measure, bench.engine.url, bench.engine.nodes, url, bench.size(50, 5), bench.size(10_000, 20)
        )
    )


async def measure(redis_url: str, nodes: list[str], url: str, messages: int, users: int) -> dict[str, float]:
    """Publish, expose most, and reconcile."""
    engine = Engine(redis_url, nodes)
    names = [f"user-{number}" for number in range(users)]
    settings = Settings.model_validate(
        {"redis": {"url": engine.url}, "auth": {"secret": SECRET}, "inbox": {"cap": messages}}
    )
    async with open_backend(settings) as backend:
        for number in range(messages):
            await backend.publisher.publish(to_users(names, "hello", f"m-{number}", 3600))
        expose(engine, url, messages * 4 // 5, names)
        before, began, cpu = peak_mib(), time.monotonic(), time.process_time()
        reconciler = Reconciler(backend.stores.whereabouts, lambda asked: exposed_users(url, asked))
        await reconciler.period(0, 0)
        return {
            "s": time.monotonic() - began,
            "cpu_s": time.process_time() - cpu,
            "mib": peak_mib() - before,
            "record_bytes": record_of(engine, 0).memory_usage(record_key(0)),
        }


def record_key(number: int) -> str:
    """Of the message's publish."""
    return f"ps:publish:{{ps:msg:m-{number}}}"


def record_of(engine: Engine, number: int) -> Any:
    """A client of the node that has it."""
    return client_of(engine, record_key(number))


def expose(engine: Engine, url: str, count: int, users: list[str]) -> None:
    """Expose the first messages, and take them out of the inboxes."""
    database = Database(url)
    database.open()
    parts = [connection_part(user, "c-1", "203.0.113.9", {}) for user in users]
    for number in range(count):
        at = int(record_of(engine, number).hget(record_key(number), "queued_at"))
        shown = [exposure(f"m-{number}", "live", at, part, at, at, "pong") for part in parts]
        database.store(records(*shown), [])
    database.close()
    insert(engine, (("LTRIM", f"ps:inbox:{{{user}}}", str(count), "-1") for user in users))


def peak_mib() -> float:
    """Most memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
