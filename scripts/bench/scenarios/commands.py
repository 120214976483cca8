"""What a Redis command costs the process that asks for it: alone, and with others in one turn of the loop."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from apart import run_apart
from scenario import Bench, Figure, Outcome

from pushserver.core.metrics import Metrics
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands

AT_ONCE = (1, 10, 100, 500)
FIGURES = tuple(
    Figure(f"{name}_{at_once}_cpu_us", f"CPU of {text}, {at_once} in a turn of the loop", "us")
    for name, text in (("get", "a GET"), ("script", "a script with three keys"))
    for at_once in AT_ONCE
)
TIMEOUT_MS = 5000


def run(bench: Bench) -> Outcome:
    """In a process of its own."""
    return Outcome(run_apart(measure, bench.engine.url, bench.size(20_000, 500)))


async def measure(url: str, count: int) -> dict[str, float]:
    """Microseconds for each command."""
    client = connect(url, timeout_ms=TIMEOUT_MS, max_connections=8)
    commands = Commands(client, Metrics(), timeout_s=TIMEOUT_MS / 1000)

    def get() -> Awaitable[Any]:
        return commands.call("GET", "k")

    def look() -> Awaitable[Any]:
        return commands.script("presence_look", ["{u}p", "{u}s", "{u}c"], ["f"])

    figures = {}
    for name, send in {"get": get, "script": look}.items():
        for at_once in AT_ONCE:
            await spend(send, at_once, at_once)
            cost = await spend(send, at_once, count if at_once > 1 else count // 5)
            figures[f"{name}_{at_once}_cpu_us"] = cost
    await commands.close()
    await client.aclose()
    return figures


async def spend(send: Callable[[], Awaitable[Any]], at_once: int, count: int) -> float:
    """Microseconds of CPU for each of `count` commands."""
    began = time.process_time()
    for _ in range(max(1, count // at_once)):
        for answer in [send() for _ in range(at_once)]:
            await answer
    return (time.process_time() - began) / (max(1, count // at_once) * at_once) * 1e6
