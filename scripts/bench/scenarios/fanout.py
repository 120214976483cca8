"""One message to a category of many live connections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

from crowd import Crowd, Latency
from machine import wait_for
from pods import Pod, one_message
from references import Reference
from scenario import Bench, Figure, Outcome
from stored import Exposures

FIGURES = (
    Figure("limit_cpu_us", "CPU of a send of the limit (a loop of `write`)", "us"),
    Figure("push_cpu_us", "CPU of a delivery until the last has it", "us"),
    Figure("push_to_limit", "the same to the limit", "x"),
    Figure("cpu_us", "CPU of a delivery, confirmed, exposed, written down, at default settings", "us"),
    Figure("to_limit", "the same to the limit", "x", 2.2),
    Figure("keepalive_cpu_us", "the same at the keepalive's pace, whose own pings are not counted", "us"),
    Figure("keepalive_to_limit", "the same to the limit", "x", 1.10),
    Figure("turn_ms", "longest turn of the loop, CPU", "ms", 50),
    Figure("turn_wall_ms", "longest turn of the loop, by the clock", "ms"),
    Figure("p50_ms", "half of the connections have it after", "ms"),
    Figure("p99_ms", "99 of 100 have it after", "ms"),
    Figure("last_ms", "the last has it after", "ms"),
    Figure("limit_last_ms", "the last of the limit's has it after", "ms"),
    Figure("load_cpu_us", "CPU of the load generator for a delivery to its receipt", "us"),
)
FRAME = 240
"""Bytes of the payload, about."""
PACE_S = 10
"""Seconds between keepalive pings, and until a broadcast is confirmed with them; shorter than the default."""
TO = {"categories": {"vip": ["3"]}}


def run(bench: Bench) -> Outcome:
    """The limit, a pod at default settings, and one that confirms at the keepalive's pace."""
    outcome, connections = Outcome(), bench.size(10_000, 50)
    bench.users(connections)
    limit(bench, outcome, connections)
    at_default_settings(bench, outcome, connections)
    at_the_pace_of_keepalive(bench, outcome, connections)
    figures = outcome.figures
    for name in ("push", "keepalive"):
        figures[f"{name}_to_limit"] = figures[f"{name}_cpu_us"] / figures["limit_cpu_us"]
    figures["to_limit"] = figures["cpu_us"] / figures["limit_cpu_us"]
    return outcome


def limit(bench: Bench, outcome: Outcome, connections: int) -> None:
    """What the kernel allows."""
    rounds = bench.size(10, 3)
    with Reference("limit", str(FRAME)) as server, Crowd() as crowd:
        crowd.connect([server.port], connections, secret="")
        costs, latencies = [], []
        for _ in range(rounds):
            crowd.count()
            cpu, began = server.cpu, time.monotonic_ns()
            server.send()
            latencies.append(crowd.messages(connections, began))
            costs.append((server.cpu - cpu) / connections * 1e6)
    outcome.figures["limit_cpu_us"] = median(costs)
    outcome.figures["limit_last_ms"] = median(latency.last for latency in latencies)
    outcome.series["limit_latency_ms"] = middle(latencies).curve


def at_default_settings(bench: Bench, outcome: Outcome, connections: int) -> None:
    """Until each is confirmed, exposed and written down; with the pings that this takes."""
    exposures = Exposures(bench.engine)
    with bench.pod() as pod, Crowd() as crowd:
        bench.connect(crowd, [pod], connections)
        pod.metrics()
        pushes, costs, loads, latencies = [], [], [], []
        for number in range(1, bench.size(3, 1) + 1):
            load, cpu = crowd.cpu, pod.cpu
            latencies.append(broadcast(pod, crowd, connections))
            pushes.append((pod.cpu - cpu) / connections * 1e6)
            written_down(bench, pod, exposures, connections * number)
            costs.append((pod.cpu - cpu) / connections * 1e6)
            loads.append((crowd.cpu - load) / connections * 1e6)
        samples = pod.metrics()
    outcome.figures |= {
        "push_cpu_us": median(pushes),
        "cpu_us": median(costs),
        "load_cpu_us": median(loads),
        "turn_ms": samples["pushserver_loop_turn_max_cpu_seconds"] * 1000,
        "turn_wall_ms": samples["pushserver_loop_turn_max_seconds"] * 1000,
        "p50_ms": median(latency.p50 for latency in latencies),
        "p99_ms": median(latency.p99 for latency in latencies),
        "last_ms": median(latency.last for latency in latencies),
    }
    outcome.series["latency_ms"] = middle(latencies).curve


def at_the_pace_of_keepalive(bench: Bench, outcome: Outcome, connections: int) -> None:
    """A broadcast in each interval; what a keepalive ping costs is measured before, and not counted."""
    pace = bench.size(PACE_S, 1)
    exposures = Exposures(bench.engine)
    exposures.skip()
    flags = (f"--set=delivery.ping_interval_s={pace}", f"--set=delivery.log_confirm_s={pace}")
    with bench.pod(*flags) as pod, Crowd() as crowd:
        bench.connect(crowd, [pod], connections)
        crowd.count()
        cpu = pod.cpu
        time.sleep(pace + bench.size(0, 1))
        ping_cpu = (pod.cpu - cpu) / crowd.state()["pings"]
        cpu, pings, rounds = pod.cpu, 0, bench.size(2, 1)
        for number in range(1, rounds + 1):
            broadcast(pod, crowd, connections)
            written_down(bench, pod, exposures, connections * number)
            pings += crowd.state()["pings"]
        spent = pod.cpu - cpu - pings * ping_cpu
    outcome.figures["keepalive_cpu_us"] = spent / (rounds * connections) * 1e6


def broadcast(pod: Pod, crowd: Crowd, connections: int) -> Latency:
    """One message to all, until the last has it. Raises `BenchError`."""
    crowd.count()
    began = time.monotonic_ns()
    pod.publish(one_message(TO))
    return crowd.messages(connections, began)


def written_down(bench: Bench, pod: Pod, exposures: Exposures, count: int) -> None:
    """Wait until so many exposures are there and no cursor waits to be written; a quick run not for these."""
    exposures.wait(count)
    if not bench.quick:
        wait_for(lambda: not pod.stats()["cursors_waiting"], "the cursors", every_s=0.5)


def middle(latencies: Sequence[Latency]) -> Latency:
    """The one whose last is in the middle."""
    return sorted(latencies, key=lambda latency: latency.last)[len(latencies) // 2]
