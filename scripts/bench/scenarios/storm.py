"""A pod of three is killed, and its clients are at the two others at once."""

from __future__ import annotations

import time
from contextlib import ExitStack

from crowd import Crowd
from pods import one_message, quantile
from scenario import Bench, Figure, Outcome

FIGURES = (
    Figure("live_s", "from the kill until all clients are live again", "s", 6),
    Figure("refusals", "refusals of a client before it was let in, on average", ""),
    Figure("most_refusals", "refusals of the one that had most", "", 1),
    Figure("lag_p99_ms", "loop lag of the two pods left meanwhile, 99 of 100", "ms", 50),
    Figure("turn_ms", "their longest turn of the loop, CPU", "ms"),
    Figure("waiting_s", "from the kill until what was sent to a tenth of the clients has come", "s"),
)
PODS = 3
HANDSHAKES_PER_S = 500
"""The default, which pods of benches do not have."""
LAG = "pushserver_loop_lag_seconds"


def run(bench: Bench) -> Outcome:
    """Clients come again when they were told to (Retry-After, and up to a second more)."""
    clients = bench.size(9999, 60)
    bench.users(clients)
    with ExitStack() as stack:
        flags = f"--set=limits.handshakes_per_s={HANDSHAKES_PER_S}"
        pods = [stack.enter_context(pod) for pod in [bench.pod(flags) for _ in range(PODS)]]
        crowd = stack.enter_context(Crowd())
        bench.connect(crowd, pods, clients, per_s=0.8 * PODS * HANDSHAKES_PER_S)
        *left, victim = pods
        cut = victim.stats()["connections"]
        messages = [
            one_message({"users": [f"user-{number}"]}) for number in range(PODS - 1, clients, 10 * PODS)
        ]
        crowd.count(reconnects=True, ports=[pod.port for pod in left])
        before = [pod.metrics() for pod in left]
        killed_at, killed_ns = time.monotonic(), time.monotonic_ns()
        victim.kill()
        left[0].publish_batch(messages)
        live = crowd.live(clients, ended=cut)
        lags = list(zip(before, [pod.metrics() for pod in left], strict=True))
        state = crowd.state()
        came = crowd.messages(len(messages), killed_ns)
    turns = [after["pushserver_loop_turn_max_cpu_seconds"] for _, after in lags]
    figures = {
        "live_s": live[-1][0] - killed_at,
        "refusals": state["refusals"] / cut,
        "most_refusals": state["most_refusals"],
        "lag_p99_ms": quantile(lags, LAG, 0.99) * 1000,
        "turn_ms": max(turns) * 1000,
        "waiting_s": came.last / 1000,
    }
    return Outcome(figures, {"live": [(at - killed_at, count) for at, count in live]})
