"""One message to a category of many live connections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import mean, median

from crowd import Crowd, Latency
from machine import wait_for
from pods import Pod, one_message
from references import Reference
from scenario import Bench, Figure, Outcome
from stored import Exposures

FIGURES = (
    Figure("limit_cpu_us", "CPU of a send of the limit (a loop of `write`), thirty broadcasts", "us"),
    Figure("cpu_us", "CPU of a delivery, confirmed, exposed, written down, at default settings", "us"),
    Figure("to_limit", "the same to the limit", "x", 2.2),
    Figure("keepalive_limit_cpu_us", "CPU of a send of the limit, a hundred broadcasts", "us"),
    Figure("keepalive_cpu_us", "CPU of a delivery that is confirmed with the keepalive's pings", "us"),
    Figure("keepalive_to_limit", "the same to the limit", "x", 1.10),
    Figure("keepalive_push_cpu_us", "of this, until the last has it", "us"),
    Figure("keepalive_push_to_limit", "the same to the limit", "x"),
    Figure(
        "ping_cpu_us",
        "CPU of the pod for each keepalive ping when nothing is sent, all else included",
        "us",
    ),
    Figure("keepalive_more_cpu_us", "CPU of such a delivery beyond that of the pings", "us"),
    Figure("keepalive_more_to_limit", "the same to the limit", "x"),
    Figure("lone_cpu_us", "CPU of a delivery when nothing follows, with pings for it alone", "us"),
    Figure(
        "deliveries_per_s", "deliveries a second, one broadcast after the other", "/s", more_is_better=True
    ),
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
ROUNDS = 30
"""Broadcasts, each when the last connection has the one before."""
PACE_S = 25
"""Seconds between keepalive pings (the default), and until a broadcast is confirmed with them."""
PACE_ROUNDS = 100
"""Broadcasts within these."""
TO = {"categories": {"vip": ["3"]}}


def run(bench: Bench) -> Outcome:
    """The limit, a pod at default settings, and one that confirms at the keepalive's pace."""
    outcome, connections = Outcome(), bench.size(10_000, 50)
    bench.users(connections)
    # What a `send` costs wanders from minute to minute: it is measured before, between and behind the others.
    limits = [limit(bench, connections)]
    for measure in (at_default_settings, at_the_pace_of_keepalive):
        measure(bench, outcome, connections)
        limits.append(limit(bench, connections))
    figures, rounds = outcome.figures, bench.size(ROUNDS, 2)
    # Of as many broadcasts as it is compared with: the first sixteen to a connection cost half as much again.
    figures["limit_cpu_us"] = mean(cost for costs, _ in limits[:2] for cost in costs[:rounds])
    figures["keepalive_limit_cpu_us"] = mean(cost for costs, _ in limits[1:] for cost in costs)
    latencies = [latency for _, all_of_one in limits[:2] for latency in all_of_one[:rounds]]
    figures["limit_last_ms"] = median(latency.last for latency in latencies)
    outcome.series["limit_latency_ms"] = middle(latencies).curve
    figures["to_limit"] = figures["cpu_us"] / figures["limit_cpu_us"]
    for name in ("keepalive_", "keepalive_push_", "keepalive_more_"):
        figures[f"{name}to_limit"] = figures[f"{name}cpu_us"] / figures["keepalive_limit_cpu_us"]
    return outcome


def limit(bench: Bench, connections: int) -> tuple[list[float], list[Latency]]:
    """What the kernel allows: CPU of a `send` in microseconds, and who has it when, for each broadcast.

    Linux acknowledges the first sixteen segments of a connection at once (TCP_MAX_QUICKACKS), on loopback
    inside the `send`, and the later ones when they are read, which is the reader's time.
    """
    with Reference("limit", str(FRAME)) as server, Crowd() as crowd:
        crowd.connect([server.port], connections, secret="")
        costs, latencies = [], []
        for _ in range(bench.size(PACE_ROUNDS, 2)):
            crowd.count()
            cpu, began = server.cpu, time.monotonic_ns()
            server.send()
            latencies.append(crowd.messages(connections, began))
            costs.append((server.cpu - cpu) / connections * 1e6)
    return costs, latencies


def at_default_settings(bench: Bench, outcome: Outcome, connections: int) -> None:
    """Until each is confirmed, exposed and written down; with the pings that this takes."""
    with bench.pod() as pod, Crowd() as crowd:
        rounds = Rounds(bench, pod, crowd, connections)
        pod.metrics()
        load = crowd.cpu
        _, spent = rounds.run(bench.size(ROUNDS, 2))
        latencies, load = list(rounds.latencies), crowd.cpu - load
        samples = pod.metrics()
        _, lone = rounds.run(1)
    outcome.figures |= {
        "cpu_us": spent,
        "lone_cpu_us": lone,
        "load_cpu_us": load / len(latencies) / connections * 1e6,
        "deliveries_per_s": connections / (median(latency.last for latency in latencies) / 1000),
        "turn_ms": samples["pushserver_loop_turn_max_cpu_seconds"] * 1000,
        "turn_wall_ms": samples["pushserver_loop_turn_max_seconds"] * 1000,
        "p50_ms": median(latency.p50 for latency in latencies),
        "p99_ms": median(latency.p99 for latency in latencies),
        "last_ms": median(latency.last for latency in latencies),
    }
    outcome.series["latency_ms"] = middle(latencies).curve


def at_the_pace_of_keepalive(bench: Bench, outcome: Outcome, connections: int) -> None:
    """Many broadcasts in an interval of pings that are sent anyway, and confirm all of them."""
    pace = bench.size(PACE_S, 1)
    flags = (f"--set=delivery.ping_interval_s={pace}", f"--set=delivery.log_confirm_s={pace}")
    count = bench.size(PACE_ROUNDS, 2)
    with bench.pod(*flags) as pod, Crowd() as crowd:
        rounds = Rounds(bench, pod, crowd, connections)
        ping = rounds.pings_alone(pace)
        pushed, spent = rounds.run(count)
    more = spent - ping * rounds.pings / (count * connections)
    outcome.figures |= {
        "keepalive_push_cpu_us": pushed,
        "keepalive_cpu_us": spent,
        "ping_cpu_us": ping,
        "keepalive_more_cpu_us": more,
    }


class Rounds:
    """Broadcasts to all who are connected to one pod."""

    def __init__(self, bench: Bench, pod: Pod, crowd: Crowd, connections: int) -> None:
        self._bench, self._pod, self._crowd, self._connections = bench, pod, crowd, connections
        self._exposures, self._sent = Exposures(bench.engine), 0
        self._exposures.skip()
        self.latencies: list[Latency] = []
        self.pings = 0
        """While it ran."""
        bench.connect(crowd, [pod], connections)

    def pings_alone(self, pace: float) -> float:
        """CPU of a ping in microseconds, for as long as each connection has one."""
        self._crowd.count()
        cpu = self._pod.cpu
        time.sleep(pace)
        pings: int = self._crowd.state()["pings"]
        return (self._pod.cpu - cpu) / max(1, pings) * 1e6

    def run(self, rounds: int) -> tuple[float, float]:
        """CPU of a delivery in microseconds: until the last has the last, and until all is written down."""
        cpu = self._pod.cpu
        for _ in range(rounds):
            self.latencies.append(broadcast(self._pod, self._crowd, self._connections))
            self.pings += self._crowd.state()["pings"]
        last = self._crowd.state()["pings"]
        pushed, self._sent = self._pod.cpu - cpu, self._sent + rounds
        written_down(self._bench, self._pod, self._exposures, self._connections * self._sent)
        # Those of the last broadcast are counted already.
        self.pings += self._crowd.state()["pings"] - last
        each = rounds * self._connections / 1e6
        return pushed / each, (self._pod.cpu - cpu) / each


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
