"""What compression costs and saves: a broadcast of 2 kB of JSON without it, and with it."""

from __future__ import annotations

import random
import time
from statistics import median
from typing import Any

from crowd import Crowd
from pods import one_message
from scenario import Bench, Figure, Outcome
from stored import Exposures

from scenarios.fanout import TO, written_down

CASES = {
    "off": ("compression off", "--set=server.deflate=false", True),
    "unasked": ("on, and nobody offers it", "--set=server.deflate=true", False),
    "on": ("on, and everybody offers it", "--set=server.deflate=true", True),
}
FIGURES = tuple(
    Figure(f"{name}_{figure}", f"{text}: {what}", unit)
    for name, (text, _, _) in CASES.items()
    for figure, what, unit in (
        ("bytes", "bytes of a delivery", "B"),
        ("push_cpu_us", "CPU of a delivery", "us"),
        ("cpu_us", "the same with confirm, exposure and the cursor's write", "us"),
        ("idle_bytes", "resident memory of an idle connection", "B"),
    )
)
WORDS = ["order", "item", "price", "shipped", "stock", "user", "total", "discount", "refund", "paid", "note"]


def run(bench: Bench) -> Outcome:
    """A pod for each, one after the other."""
    outcome, connections = Outcome(), bench.size(5000, 40)
    bench.users(connections)
    for name, (_, flag, offers) in CASES.items():
        figures = broadcasts(bench, flag, connections, offers=offers)
        outcome.figures |= {f"{name}_{figure}": value for figure, value in figures.items()}
    return outcome


def broadcasts(bench: Bench, flag: str, connections: int, *, offers: bool) -> dict[str, float]:
    """Some messages to all, one after the other; medians."""
    exposures = Exposures(bench.engine)
    exposures.skip()
    with bench.pod(flag) as pod, Crowd() as crowd:
        bench.warm(pod)
        before = pod.rss
        bench.connect(crowd, [pod], connections, offers=offers)
        idle = (pod.rss - before) / connections
        pushes, costs, size = [], [], 0
        for number in range(1, bench.size(5, 1) + 1):
            crowd.count()
            cpu, began = pod.cpu, time.monotonic_ns()
            pod.publish(one_message(TO, content="", rows=rows(number)))
            crowd.messages(connections, began)
            pushes.append((pod.cpu - cpu) / connections * 1e6)
            size = crowd.state()["message_bytes"]
            written_down(bench, pod, exposures, connections * number)
            costs.append((pod.cpu - cpu) / connections * 1e6)
    return {
        "bytes": size / connections,
        "push_cpu_us": median(pushes),
        "cpu_us": median(costs),
        "idle_bytes": idle,
    }


def rows(number: int) -> list[dict[str, Any]]:
    """Some 2 kB of JSON, as a list of rows has it; another each time."""
    chance = random.Random(number)
    return [
        {
            "id": chance.randrange(10**9),
            "title": " ".join(chance.choices(WORDS, k=4)),
            "url": f"https://shop.example/{chance.choice(WORDS)}/{chance.randrange(10**6)}",
            "changed": 1_700_000_000_000 + chance.randrange(10**9),
            "seen": chance.random() < 0.5,
        }
        for _ in range(14)
    ]
