#!/usr/bin/env python3
"""What compression costs and saves: a broadcast of 2 kB of JSON without it, and with it.

    .venv/bin/python scripts/bench/deflate.py [--connections 5000] [--rounds 7]

Three pods one after the other: one that does not compress, one that would and is not asked to, one whose
clients all ask for it. CPU is the pod's own, for each delivery, its confirm included and without; idle bytes
are RSS.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from load import Load
from machine import Engine, Pod, wait_for
from publishing import Api, quiet, tokens

WORDS = ["order", "item", "price", "shipped", "stock", "user", "total", "discount", "refund", "paid", "note"]


def main() -> None:
    """Run the three and print each result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Engine(folder) as engine:
        url = f"redis://127.0.0.1:{engine.port}"
        for name, deflate, offers in (
            ("off", "false", True),
            ("not asked", "true", False),
            ("on", "true", True),
        ):
            with Pod(url, folder, f"--set=server.deflate={deflate}") as pod:
                figures = broadcast(pod, options.connections, options.rounds, offers=offers)
            for what, value in figures.items():
                print(f"{name}: {what} = {value:.1f}", flush=True)


def content(number: int) -> list[dict[str, object]]:
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


def broadcast(pod: Pod, connections: int, rounds: int, *, offers: bool) -> dict[str, float]:
    """One message to everyone, over and over; medians."""
    load = Load(pod.port, offers=offers)
    warm, many = tokens(["warm"]), tokens([f"user-{number}" for number in range(connections)])
    load.connect(warm)
    before = pod.rss()
    load.connect(many)
    idle = (pod.rss() - before) / connections
    api, spent, confirmed = Api(pod), [], []
    for number in range(rounds):
        due, cpu = load.messages + connections + 1, pod.loop_cpu()
        body = json.dumps({"to": {"everyone": True}, "content": content(number)}).encode()
        sender = threading.Thread(target=api.post, args=("/v1/messages", body))
        sender.start()
        while load.messages < due:
            load.turn(1.0)
        spent.append((pod.loop_cpu() - cpu) / connections * 1e6)
        sender.join()
        wait_for(lambda: quiet(pod, load))
        confirmed.append((pod.loop_cpu() - cpu) / connections * 1e6)
    load.close()
    return {
        "bytes of an idle connection": idle,
        "bytes of a delivery": load.message_bytes / load.messages,
        "CPU of a delivery, us": statistics.median(spent),
        "CPU of a delivery with its confirm, us": statistics.median(confirmed),
    }


if __name__ == "__main__":
    main()
