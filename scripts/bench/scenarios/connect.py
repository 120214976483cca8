"""A verified connect, from its first byte to the `live` frame, beside bare Tornado's."""

from __future__ import annotations

from crowd import Crowd
from references import Reference
from scenario import Bench, Figure, Outcome

FIGURES = (
    Figure("cpu_us", "CPU of a verified connect to its `live` frame", "us", 200),
    Figure("tornado_cpu_us", "CPU of a connect of bare Tornado, which verifies nobody", "us"),
    Figure("to_tornado", "the first to the second", "x", 1 / 3),
    Figure("per_s", "connects a second", "/s", more_is_better=True),
    Figure("load_cpu_us", "CPU of the load generator for a connect", "us"),
)
PARTS = 20


def run(bench: Bench) -> Outcome:
    """As many connects to either, all of which stay until the end."""
    connections = bench.size(10_000, 60)
    bench.users(connections)
    outcome = Outcome()
    with bench.pod() as pod, Crowd() as crowd:
        bench.warm(pod)
        cpu, points, seconds, load = pod.cpu, [], 0.0, 0.0
        for part in range(PARTS):
            before, some = pod.cpu, connections // PARTS
            answer = bench.connect(crowd, [pod], some, first=part * some)
            seconds, load = seconds + answer["seconds"], load + answer["cpu"]
            points.append((answer["live"], (pod.cpu - before) / some * 1e6))
        spent = (pod.cpu - cpu) / connections
        outcome.series["cpu_us"] = points
    with Reference("tornado") as tornado:
        with Crowd() as warm:
            warm.connect([tornado.port], bench.size(200, 20), secret="")
        with Crowd() as crowd:
            cpu = tornado.cpu
            crowd.connect([tornado.port], connections, secret="")
            tornado_spent = (tornado.cpu - cpu) / connections
    outcome.figures = {
        "cpu_us": spent * 1e6,
        "tornado_cpu_us": tornado_spent * 1e6,
        "to_tornado": spent / tornado_spent,
        "per_s": connections / seconds,
        "load_cpu_us": load / connections * 1e6,
    }
    return outcome
