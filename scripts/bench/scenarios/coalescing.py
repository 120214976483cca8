"""Ten messages to everyone, published at once and one after the other."""

from __future__ import annotations

from crowd import Crowd
from pods import one_message
from scenario import Bench, Figure, Outcome

from scenarios.fanout import TO, broadcast

FIGURES = (
    Figure("one_by_one_cpu_us", "CPU of a delivery, ten messages one after the other", "us"),
    Figure("at_once_cpu_us", "CPU of a delivery, ten messages published at once", "us"),
    Figure("ratio", "the second to the first", "x", 0.3),
)
MESSAGES = 10
LATE_CONFIRM = ("--set=delivery.ping_interval_s=300", "--set=delivery.log_confirm_s=300")
"""So that only deliveries are measured."""


def run(bench: Bench) -> Outcome:
    """Until the last connection has the last."""
    connections = bench.size(10_000, 50)
    deliveries = connections * MESSAGES
    bench.users(connections)
    with bench.pod(*LATE_CONFIRM) as pod, Crowd() as crowd:
        bench.connect(crowd, [pod], connections)
        broadcast(pod, crowd, connections)
        cpu = pod.cpu
        for _ in range(MESSAGES):
            broadcast(pod, crowd, connections)
        one_by_one = (pod.cpu - cpu) / deliveries
        crowd.count()
        cpu = pod.cpu
        pod.publish_batch([one_message(TO)] * MESSAGES)
        crowd.messages(deliveries)
        at_once = (pod.cpu - cpu) / deliveries
    figures = {
        "one_by_one_cpu_us": one_by_one * 1e6,
        "at_once_cpu_us": at_once * 1e6,
        "ratio": at_once / one_by_one,
    }
    return Outcome(figures)
