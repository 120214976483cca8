"""What grows with the number of connections, and of users in Redis: nothing should."""

from __future__ import annotations

from statistics import median

from crowd import Crowd
from pods import Pod
from scenario import Bench, Figure, Outcome
from stored import Exposures, insert, rest, with_strangers

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
NO_CONFIRM = ("--set=delivery.ping_interval_s=300", "--set=delivery.log_confirm_s=300")
NO_KEEPALIVE = "--set=delivery.ping_interval_s=300"


def run(bench: Bench) -> Outcome:
    """First the connections, then the users in Redis."""
    outcome, few, many = Outcome(), bench.size(1000, 20), bench.size(19_000, 60)
    bench.users(many)
    pushes = connects_and_pushes(bench, outcome, few, many)
    confirms(bench, outcome, pushes)
    with_users(bench, outcome)
    return outcome


def connects_and_pushes(bench: Bench, outcome: Outcome, few: int, many: int) -> dict[int, float]:
    """A pod that fills up; what a delivery costs with few and with many."""
    points = []
    with bench.pod(*NO_CONFIRM) as pod, Crowd() as crowd:
        bench.warm(pod)
        bench.connect(crowd, [pod], few)
        pushes = {few: push(pod, crowd, few, 15)}
        for first in range(few, many, few):
            cpu = pod.cpu
            bench.connect(crowd, [pod], few, first=first)
            points.append((first + few, (pod.cpu - cpu) / few * 1e6))
        pushes[many] = push(pod, crowd, many, 5)
    outcome.figures |= {
        "few_connect_cpu_us": points[0][1],
        "connect": points[-1][1] / points[0][1],
        "few_push_cpu_us": pushes[few],
        "push": pushes[many] / pushes[few],
    }
    outcome.series["connect_cpu_us"] = points
    return pushes


def push(pod: Pod, crowd: Crowd, connections: int, rounds: int) -> float:
    """Microseconds of CPU of a delivery."""
    broadcast(pod, crowd, connections)
    cpu = pod.cpu
    for _ in range(rounds):
        broadcast(pod, crowd, connections)
    return (pod.cpu - cpu) / connections / rounds * 1e6


def confirms(bench: Bench, outcome: Outcome, pushes: dict[int, float]) -> None:
    """What follows a delivery: all that it costs at default settings, without the delivery."""
    costs = []
    with bench.pod(NO_KEEPALIVE) as pod, Crowd() as crowd:
        for connections, pushed in pushes.items():
            bench.connect(crowd, [pod], connections - crowd.state()["live"], first=crowd.state()["live"])
            exposures = Exposures(bench.engine)
            exposures.skip()
            spent, rounds = [], bench.size(2, 1)
            for number in range(1, rounds + 1):
                cpu = pod.cpu
                broadcast(pod, crowd, connections)
                written_down(bench, pod, exposures, number * connections)
                spent.append((pod.cpu - cpu) / connections * 1e6)
            costs.append(median(spent) - pushed)
    outcome.figures |= {"few_confirm_cpu_us": costs[0], "confirm": costs[1] / costs[0]}


def with_users(bench: Bench, outcome: Outcome) -> None:
    """One pod; Redis fills up."""
    with bench.pod() as pod:
        bench.warm(pod)
        empty = connect(bench, pod, "early")
        insert(bench.engine, with_strangers(bench.size(1_000_000, 1000)))
        rest(bench.engine)
        full = connect(bench, pod, "late")
    outcome.figures |= {"empty_redis_connect_cpu_us": empty * 1e6, "full_redis_connect": full / empty}


def connect(bench: Bench, pod: Pod, name: str) -> float:
    """Seconds of CPU of a connect, each of a user who is here for the first time."""
    connections = bench.size(2000, 20)
    costs = []
    for number in range(3):
        prefix = f"{name}-{number}-"
        bench.users(connections, prefix)
        with Crowd() as crowd:
            cpu = pod.cpu
            bench.connect(crowd, [pod], connections, prefix=prefix)
            costs.append((pod.cpu - cpu) / connections)
    return median(costs)
