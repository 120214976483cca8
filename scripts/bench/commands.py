#!/usr/bin/env python3
"""What a Redis command costs the process that asks for it: alone, and with others in one turn of the loop.

    .venv/bin/python scripts/bench/commands.py [--commands 20000]

CPU is this process' own (user and system); it runs on one processor, Redis on another, where there are two.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from machine import Engine, pin

from pushserver.core.metrics import Metrics
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands

TIMEOUT_MS = 5000


def main() -> None:
    """Print microseconds for each command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commands", type=int, default=20_000, help="in each measurement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Engine(folder) as engine:
        pin(os.getpid(), 0)
        asyncio.run(measure(engine.port, options.commands))


async def measure(port: int, count: int) -> None:
    """A GET, and a script with three keys and two answers, so many at a time."""
    client = connect(f"redis://127.0.0.1:{port}", timeout_ms=TIMEOUT_MS, max_connections=8)
    commands = Commands(client, Metrics(), timeout_s=TIMEOUT_MS / 1000)

    def get() -> Awaitable[Any]:
        return commands.call("GET", "k")

    def look() -> Awaitable[Any]:
        return commands.script("presence_look", ["{u}p", "{u}s", "{u}c"], ["f"])

    for name, send in {"GET": get, "script": look}.items():
        for at_once in (1, 10, 100, 500):
            await spend(send, at_once, at_once)
            cost = await spend(send, at_once, count if at_once > 1 else count // 5)
            print(f"{name}, {at_once} at a time: {cost:.1f} us", flush=True)
    await commands.close()
    await client.aclose()


async def spend(send: Callable[[], Awaitable[Any]], at_once: int, count: int) -> float:
    """Microseconds of CPU for each of `count` commands."""
    began = time.process_time()
    for _ in range(count // at_once):
        for answer in [send() for _ in range(at_once)]:
            await answer
    return (time.process_time() - began) / (count // at_once * at_once) * 1e6


if __name__ == "__main__":
    main()
