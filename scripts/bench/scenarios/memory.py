"""What an idle connection keeps."""

from __future__ import annotations

import time

from crowd import Crowd
from scenario import Bench, Figure, Outcome

FIGURES = (
    Figure("idle_bytes", "resident memory of an idle connection of 19 000 in one process", "B", 2500),
    Figure("pod_mib", "resident memory of the pod with none", "MiB"),
)
REST_S = 3
"""Until what the connects needed for a moment is let go of."""


def run(bench: Bench) -> Outcome:
    """The pod's growth from none to all, each with a user and categories of its own."""
    connections = bench.size(19_000, 50)
    bench.users(connections)
    with bench.pod() as pod, Crowd() as crowd:
        bench.warm(pod)
        before = pod.rss
        bench.connect(crowd, [pod], connections)
        time.sleep(bench.size(REST_S, 0))
        return Outcome({"idle_bytes": (pod.rss - before) / connections, "pod_mib": before / 2**20})
