"""One message to one user who is live: by batches, and one in a request."""

from __future__ import annotations

import time
from collections.abc import Sequence

from crowd import Crowd
from machine import wait_for
from pods import Pod, one_message
from poster import Poster
from scenario import Bench, Figure, Outcome
from stored import Exposures, inboxes_empty

FIGURES = (
    Figure("batch_cpu_us", "CPU of a message of a batch, until it is settled and exposed", "us", 150),
    Figure("batch_per_s", "such messages a second", "/s", more_is_better=True),
    Figure("at_once_cpu_us", "CPU of a message by itself, 8 requests at once", "us", 300),
    Figure("at_once_per_s", "such messages accepted a second", "/s", more_is_better=True),
    Figure("alone_cpu_us", "CPU of a message by itself, one request after the other", "us", 300),
    Figure(
        "saturating_per_s",
        "messages a second that two pods on one processor take, 16 at once",
        "/s",
        more_is_better=True,
    ),
    Figure("p50_ms", "publish to frame at half of that, half of them", "ms", 3),
    Figure("p99_ms", "publish to frame at half of that, 99 of 100", "ms", 15),
)
AT_ONCE = 8
PACED_S = 5


def run(bench: Bench) -> Outcome:
    """One pod for what a message costs, two for how long it takes."""
    outcome, users = Outcome(), bench.size(10_000, 50)
    bench.users(users)
    with bench.pod() as pod, Crowd() as crowd:
        bench.connect(crowd, [pod], users)
        one = Publisher(bench, pod, crowd)
        one.batch(outcome, users)
        one.requests(outcome, "at_once", AT_ONCE, bench.size(3000, 40))
        one.requests(outcome, "alone", 1, bench.size(1000, 20))
    latency(bench, outcome)
    return outcome


class Publisher:
    """Publishes through a pod to the users who are connected to it."""

    def __init__(self, bench: Bench, pod: Pod, crowd: Crowd) -> None:
        self._bench, self._pod, self._crowd = bench, pod, crowd
        self._exposures, self._sent = Exposures(bench.engine), 0

    def batch(self, outcome: Outcome, messages: int) -> None:
        """A batch with a message for each user."""
        names = users(messages)
        bodies = [one_message({"users": [name]}) for name in names]
        # What the first one loads is no message's.
        self._pod.publish_batch(bodies[:10])
        self._settled(names, 10)
        cpu, began = self._pod.cpu, time.monotonic()
        self._pod.publish_batch(bodies)
        self._settled(names, messages)
        outcome.figures["batch_per_s"] = messages / (time.monotonic() - began)
        outcome.figures["batch_cpu_us"] = (self._pod.cpu - cpu) / messages * 1e6

    def requests(self, outcome: Outcome, name: str, at_once: int, messages: int) -> None:
        """Single messages, to users in turn."""
        names = users(messages)
        bodies = [one_message({"users": [user]}) for user in names]
        with Poster([self._pod.admin_port], at_once) as poster:
            poster.post(bodies[:at_once])
            self._settled(names, at_once)
            cpu = self._pod.cpu
            seconds = poster.post(bodies)
            self._settled(names, messages)
        outcome.figures[f"{name}_cpu_us"] = (self._pod.cpu - cpu) / messages * 1e6
        if at_once > 1:
            outcome.figures[f"{name}_per_s"] = messages / seconds

    def _settled(self, names: Sequence[str], messages: int) -> None:
        self._sent += messages
        self._crowd.messages(self._sent)
        self._exposures.wait(self._sent)
        wait_for(lambda: inboxes_empty(self._bench.engine, names), "the inboxes")


def latency(bench: Bench, outcome: Outcome) -> None:
    """Users and publishers on two pods, so half of the messages go from one to the other."""
    count = bench.size(2000, 20)
    bodies = [one_message({"users": [name]}) for name in users(count)]
    first, second = bench.pod(), bench.pod()
    with first as one, second as two, Crowd() as crowd:
        bench.connect(crowd, [one, two], count)
        with Poster([one.admin_port, two.admin_port], AT_ONCE) as poster:
            poster.post(bodies)
            per_s = len(bodies) / poster.post(bodies)
            crowd.messages(2 * len(bodies))
            crowd.count(stamped=True)
            paced = max(1, int(per_s / 2 * bench.size(PACED_S, 1)))

            def body(due_ns: int) -> bytes:
                return one_message({"users": [f"user-{due_ns % count}"]}, ts=due_ns)

            poster.post_at(per_s / 2, paced, body)
        found = crowd.messages(paced)
    outcome.figures |= {"saturating_per_s": per_s, "p50_ms": found.p50, "p99_ms": found.p99}
    outcome.series["latency_ms"] = found.curve


def users(count: int) -> list[str]:
    """The first names of the crowd."""
    return [f"user-{number}" for number in range(count)]
