"""What grows with the number of connections, and of users in Redis: nothing should."""

from __future__ import annotations

from statistics import median

from crowd import Crowd
from pods import Pod
from scenario import Bench, Figure, Outcome
from stored import Exposures, insert, with_strangers

from scenarios.fanout import broadcast, written_down

FIGURES = (
    Figure("few_connect_cpu_us", "CPU of a connect beside 1000", "us"),
    Figure("connect", "CPU of a connect beside 18 000 to it", "x", 1.2),
    Figure("few_push_cpu_us", "CPU of a delivery to 1000", "us"),
    Figure("push", "CPU of a delivery to 19 000 to it", "x", 1.2),
    Figure("few_confirm_cpu_us", "CPU of a confirm with exposure and cursor, of 1000", "us"),
    Figure("confirm", "CPU of a confirm of 19 000 to it", "x", 1.2),
    Figure("empty_redis_connect_cpu_us", "CPU of a connect, nobody else in Redis", "us"),
    Figure("full_redis_connect", "CPU of a connect, 1 000 000 users in Redis, to it", "x", 1.2),
)
NO_KEEPALIVE = "--set=delivery.ping_interval_s=300"
IN_A_ROW = 3
"""Broadcasts before their confirms are waited for."""


def run(bench: Bench) -> Outcome:
    """First the connections, then the users in Redis."""
    outcome = Outcome()
    with_connections(bench, outcome)
    with_users(bench, outcome)
    return outcome


def with_connections(bench: Bench, outcome: Outcome) -> None:
    """One pod, which fills up."""
    few, many = bench.size(1000, 20), bench.size(19_000, 60)
    bench.users(many)
    with bench.pod(NO_KEEPALIVE) as pod, Crowd() as crowd:
        bench.warm(pod)
        exposures = Exposures(bench.engine)
        bench.connect(crowd, [pod], few)
        pushes, confirms = deliver(bench, pod, crowd, exposures, few, bench.size(4, 1))
        points = []
        for first in range(few, many, few):
            cpu = pod.cpu
            bench.connect(crowd, [pod], few, first=first)
            points.append((first + few, (pod.cpu - cpu) / few * 1e6))
        many_pushes, many_confirms = deliver(bench, pod, crowd, exposures, many, 1)
    figures, first_connect = outcome.figures, points[0][1]
    figures["few_connect_cpu_us"], figures["connect"] = first_connect, points[-1][1] / first_connect
    figures["few_push_cpu_us"], figures["push"] = pushes, many_pushes / pushes
    figures["few_confirm_cpu_us"], figures["confirm"] = confirms, many_confirms / confirms
    outcome.series["connect_cpu_us"] = points


def deliver(
    bench: Bench, pod: Pod, crowd: Crowd, exposures: Exposures, connections: int, rounds: int
) -> tuple[float, float]:
    """Microseconds of CPU of a delivery, and of what follows it."""
    exposures.skip()
    pushes, confirms = [], []
    for number in range(1, rounds + 1):
        cpu = pod.cpu
        for _ in range(IN_A_ROW):
            broadcast(pod, crowd, connections)
        pushed = pod.cpu
        written_down(bench, pod, exposures, number * IN_A_ROW * connections)
        pushes.append((pushed - cpu) / connections / IN_A_ROW * 1e6)
        confirms.append((pod.cpu - pushed) / connections / IN_A_ROW * 1e6)
    return median(pushes), median(confirms)


def with_users(bench: Bench, outcome: Outcome) -> None:
    """One pod; Redis fills up."""
    connections = bench.size(3000, 40)
    with bench.pod() as pod:
        bench.warm(pod)
        empty = connect(bench, pod, connections, "early-")
        insert(bench.engine, with_strangers(bench.size(1_000_000, 1000)))
        full = connect(bench, pod, connections, "late-")
    outcome.figures |= {"empty_redis_connect_cpu_us": empty * 1e6, "full_redis_connect": full / empty}


def connect(bench: Bench, pod: Pod, connections: int, prefix: str) -> float:
    """Seconds of CPU of a connect."""
    bench.users(connections, prefix)
    with Crowd() as crowd:
        cpu = pod.cpu
        bench.connect(crowd, [pod], connections, prefix=prefix)
        return (pod.cpu - cpu) / connections
