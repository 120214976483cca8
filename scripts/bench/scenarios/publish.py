"""One message to one user who is live: by batches, and one in a request."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import cycle

from crowd import Crowd
from machine import wait_for
from pods import Pod, one_message
from poster import Poster
from scenario import Bench, Figure, Outcome
from stored import Exposures, inboxes_empty

AT_ONCE = 32
"""Requests on their way, which saturates a pod."""
TO_EACH = 8
"""The same to each of two pods."""
FIGURES = (
    Figure("batch_cpu_us", "CPU of a message of a batch, until it is settled and exposed", "us", 150),
    Figure("batch_per_s", "such messages a second", "/s", more_is_better=True),
    Figure("at_once_cpu_us", f"CPU of a message by itself, {AT_ONCE} requests at once", "us", 300),
    Figure("at_once_per_s", "such messages accepted a second", "/s", more_is_better=True),
    Figure("alone_cpu_us", "CPU of a message by itself, one request after the other", "us"),
    Figure(
        "saturating_per_s",
        f"messages a second that two pods on one processor take, {2 * TO_EACH} at once",
        "/s",
        more_is_better=True,
    ),
    Figure("p50_ms", "publish to frame at half of that, half of them", "ms", 3),
    Figure("p99_ms", "publish to frame at half of that, 99 of 100", "ms", 15),
)
PACED_S = 5


def run(bench: Bench) -> Outcome:
    """One pod for what a message costs, two for how long it takes."""
    outcome, many, few = Outcome(), bench.size(10_000, 50), bench.size(1000, 20)
    bench.users(many)
    with bench.pod() as pod, Crowd() as crowd:
        bench.connect(crowd, [pod], many)
        Publisher(bench, pod, crowd, users(many)).batch(outcome)
    # With few who are there, for their keepalive pings would be a part of what takes longer.
    with bench.pod() as pod, Crowd() as crowd:
        bench.connect(crowd, [pod], few)
        publisher = Publisher(bench, pod, crowd, users(few))
        publisher.requests(outcome, "at_once", AT_ONCE, 3 * few)
        publisher.requests(outcome, "alone", 1, few)
    latency(bench, outcome)
    return outcome


class Publisher:
    """Publishes through a pod to the users who are connected to it."""

    def __init__(self, bench: Bench, pod: Pod, crowd: Crowd, names: Sequence[str]) -> None:
        self._bench, self._pod, self._crowd, self._names = bench, pod, crowd, names
        self._exposures, self._sent = Exposures(bench.engine), 0
        self._exposures.skip()

    def batch(self, outcome: Outcome) -> None:
        """A batch with a message for each user."""
        bodies = [one_message({"users": [name]}) for name in self._names]
        messages = len(bodies)
        # What the first one loads is no message's.
        self._pod.publish_batch(bodies[:10])
        self._settled(10)
        cpu, began = self._pod.cpu, time.monotonic()
        self._pod.publish_batch(bodies)
        self._settled(messages)
        outcome.figures["batch_per_s"] = messages / (time.monotonic() - began)
        outcome.figures["batch_cpu_us"] = (self._pod.cpu - cpu) / messages * 1e6

    def requests(self, outcome: Outcome, name: str, at_once: int, messages: int) -> None:
        """Single messages, to users in turn."""
        bodies = [one_message({"users": [name]}) for name, _ in zip(cycle(self._names), range(messages))]
        with Poster([self._pod.admin_port], at_once) as poster:
            poster.post(bodies[:at_once])
            self._settled(at_once)
            cpu = self._pod.cpu
            seconds = poster.post(bodies)
            self._settled(messages)
        outcome.figures[f"{name}_cpu_us"] = (self._pod.cpu - cpu) / messages * 1e6
        if at_once > 1:
            outcome.figures[f"{name}_per_s"] = messages / seconds

    def _settled(self, messages: int) -> None:
        self._sent += messages
        self._crowd.messages(self._sent)
        self._exposures.wait(self._sent)
        wait_for(lambda: inboxes_empty(self._bench.engine, self._names), "the inboxes")


def latency(bench: Bench, outcome: Outcome) -> None:
    """Users and publishers on two pods, so half of the messages go from one to the other."""
    count = bench.size(2000, 20)
    bodies = [one_message({"users": [name]}) for name in users(count)]
    first, second = bench.pod(), bench.pod()
    with first as one, second as two, Crowd() as crowd:
        bench.connect(crowd, [one, two], count)
        with Poster([one.admin_port, two.admin_port], TO_EACH) as poster:
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
