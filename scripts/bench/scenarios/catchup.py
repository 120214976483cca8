"""Messages that wait: delivered at the connect, confirmed, settled, exposed."""

from __future__ import annotations

import time

from crowd import Crowd
from machine import wait_for
from pods import Pod, pushserver, settings
from scenario import Bench, Figure, Outcome
from stored import Exposures, inboxes_empty

FIGURES = (
    Figure("cpu_us", "CPU of a message that waited, until it is settled and exposed", "us", 40),
    Figure("per_s", "such messages a second", "/s", more_is_better=True),
)


def run(bench: Bench) -> Outcome:
    """Twenty users, whose inboxes are as full as the cap lets them be."""
    with bench.pod() as pod:
        bench.warm(pod)
        cpu_us, per_s = catch_up(bench, pod, Exposures(bench.engine))
    return Outcome({"cpu_us": cpu_us, "per_s": per_s})


def catch_up(bench: Bench, pod: Pod, exposures: Exposures | None) -> tuple[float, float]:
    """Microseconds of the pod's CPU for a message, and messages a second. None: nothing is exposed there."""
    names = [f"reader-{number}" for number in range(bench.size(20, 2))]
    each = bench.size(1000, 50)
    messages = each * len(names)
    flags = settings(bench.engine.url)
    pushserver(["seed", *names, "--count", str(each), "--text", "x" * 150, *flags])
    bench.users(len(names), "reader-")
    with Crowd() as crowd:
        cpu, began = pod.cpu, time.monotonic()
        bench.connect(crowd, [pod], len(names), prefix="reader-")
        crowd.messages(messages)
        wait_for(lambda: inboxes_empty(bench.engine, names), "the inboxes")
        if exposures is not None:
            exposures.wait(messages)
        return (pod.cpu - cpu) / messages * 1e6, messages / (time.monotonic() - began)
