#!/usr/bin/env python3
"""Figures of reconciling: how long it takes, and its memory.

    .venv/bin/python scripts/bench/reconcile.py [--messages 50] [--users 10000]

Each message is for all users; four of five are exposed, the others wait. redis-server is that of the tests,
the database SQLite.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from pushserver.backend import open_backend
from pushserver.cli.reconcile import exposed_users
from pushserver.database.database import Database
from pushserver.exposure.event import Exposure, connection_part
from pushserver.reconcile import Reconciler
from tests.database.look import records
from tests.engines.redis_server import RedisServer, redis_program
from tests.pod import settings
from tests.texts import to_users


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=50)
    parser.add_argument("--users", type=int, default=10_000)
    options = parser.parse_args()
    server = RedisServer(redis_program())
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            users = [f"user-{number}" for number in range(options.users)]
            url = f"sqlite:///{folder}/exposures.db"
            asyncio.run(measure(server, url, options.messages, users))
    finally:
        server.kill()


async def measure(server: RedisServer, url: str, messages: int, users: list[str]) -> None:
    async with open_backend(settings(server.url, inbox={"cap": messages})) as backend:
        for number in range(messages):
            await backend.publisher.publish(to_users(users, "hello", f"m-{number}", 3600))
        with server.client() as redis:
            settle(redis, url, messages * 4 // 5, users)
            print(f"{redis.memory_usage('ps:publish:{ps:msg:m-0}')} bytes in a record")
        before, began, cpu = peak_mib(), time.monotonic(), time.process_time()
        reconciler = Reconciler(backend.stores.whereabouts, lambda asked: exposed_users(url, asked))
        found = await reconciler.period(0, 0)
        took, spent = time.monotonic() - began, time.process_time() - cpu
        print(found.totals)
        print(f"{took:.1f} s, {spent:.1f} s of CPU, {peak_mib() - before} MiB more")


def settle(redis: Any, url: str, count: int, users: list[str]) -> None:
    """Expose the first messages, and take them out of the inboxes."""
    database = Database(url)
    database.open()
    parts = [connection_part(user, "c-1", "203.0.113.9", {}) for user in users]
    for number in range(count):
        at = int(redis.hget(f"ps:publish:{{ps:msg:m-{number}}}", "queued_at"))
        shown = [Exposure(f"m-{number}", "live", at, part, at, at, "pong") for part in parts]
        database.store(records(*shown), [])
    database.close()
    with redis.pipeline(transaction=False) as pipeline:
        for user in users:
            pipeline.ltrim(f"ps:inbox:{{{user}}}", count, -1)
        pipeline.execute()


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
