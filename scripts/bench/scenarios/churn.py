"""Connect, messages, disconnect, faults in between, for as long as `--minutes` says: what is left over."""

from __future__ import annotations

import time
from statistics import median

from crowd import Crowd
from machine import descriptors, wait_for
from pods import Pod, one_message
from scenario import Bench, Figure, Outcome
from stored import Exposures, inboxes_empty

FIGURES = (
    Figure("cycles", "connections that came, got a message and left", "", more_is_better=True),
    Figure("rss_ratio", "resident memory in the last third to that in the second", "x", 1.05),
    Figure("descriptors", "descriptors more in the last third than in the second", "", 0),
    Figure("tasks", "background tasks more in the last third than in the second", "", 0),
    Figure("keys_ratio", "keys left in Redis when all times are up, to those after three cycles", "x", 1.0),
)
USERS = 5000
PAUSE_MS = 1500
"""For which Redis says nothing in every third cycle."""
KEPT_S = 60
"""That Redis keeps what a message leaves: short, so that what is never removed shows."""
GONE_S = KEPT_S + 65
"""After which nothing of it is left: the record of a publish outlives the rest by a minute."""
FORGET = (f"--set=publish.idempotency_s={KEPT_S}", "--set=publish.record_s=0")
SAMPLES = 100


def run(bench: Bench) -> Outcome:
    """The same users again and again; in one cycle of three Redis pauses, in another it cuts all who ask."""
    users = bench.size(USERS, 20)
    bench.users(users)
    messages = [
        one_message({"users": [f"user-{number}"]})[:-1] + f',"ttl":{KEPT_S}}}'.encode()
        for number in range(users)
    ]
    messages.append(one_message({"categories": {"vip": ["3"]}})[:-1] + f',"ttl":{KEPT_S}}}'.encode())
    end = time.monotonic() + 60 * bench.minutes
    exposures = Exposures(bench.engine)
    samples: list[tuple[float, ...]] = []
    cycles, began, every_s, kept = 0, time.monotonic(), 60 * bench.minutes / SAMPLES, 0
    with bench.pod(*FORGET) as pod, Crowd() as crowd:
        while time.monotonic() < end or cycles < 3:
            if cycles == 3:
                kept = left(bench, pod)
            if cycles % 3 == 1:
                cut(bench)
            cycle(bench, pod, crowd, exposures, messages, pause_ms=PAUSE_MS if cycles % 3 == 2 else 0)
            cycles += 1
            now = time.monotonic() - began
            if not samples or cycles <= 3 or now - samples[-1][0] >= every_s:
                samples.append((now, *sample(bench, pod)))
        after = left(bench, pod)
    more = {"cycles": float(cycles * users), "keys_ratio": after / (kept or after)}
    return Outcome(figures(samples) | more, {"samples": samples})


def left(bench: Bench, pod: Pod) -> int:
    """Keys in Redis when what is kept for a while is gone. How many there are meanwhile hangs on the pace."""
    until = time.monotonic() + bench.size(GONE_S, 0)
    while time.monotonic() < until:
        time.sleep(5)
        # A connection on which nothing is asked for a minute is closed.
        pod.stats()
    return bench.engine.keys()


def cut(bench: Bench) -> None:
    """Every connection to Redis but this one ends; pods make new ones."""
    for client in bench.engine.clients:
        client.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")  # type: ignore[no-untyped-call]  # redis-py's


def cycle(
    bench: Bench, pod: Pod, crowd: Crowd, exposures: Exposures, messages: list[bytes], *, pause_ms: int
) -> None:
    """All come, get a message each and one for all of them, and leave."""
    users = len(messages) - 1
    names = [f"user-{number}" for number in range(users)]
    crowd.count()
    bench.connect(crowd, [pod], users)
    if pause_ms:
        for client in bench.engine.clients:
            client.client_pause(pause_ms)
    pod.publish_batch(messages)
    crowd.messages(2 * users)
    # Who leaves before has the message again, and the next cycle would count it.
    exposures.wait(exposures.count + 2 * users)
    exposures.forget()
    wait_for(lambda: not pod.stats()["settle_waiting"], "what is settled")
    wait_for(lambda: inboxes_empty(bench.engine, names), "the inboxes")
    crowd.leave()
    wait_for(lambda: pod.stats()["connections"] == 0, "that all are gone", every_s=0.2)


def sample(bench: Bench, pod: Pod) -> tuple[float, float, float, float]:
    """Resident MiB, descriptors, tasks, keys."""
    return pod.rss / 2**20, descriptors(pod.pid), pod.stats()["tasks"], bench.engine.keys()


def figures(samples: list[tuple[float, ...]]) -> dict[str, float]:
    """What grew."""
    third = max(1, len(samples) // 3)
    second, last = samples[third : 2 * third], samples[-third:]

    def middles(column: int) -> tuple[float, float]:
        return median(one[column] for one in second), median(one[column] for one in last)

    (rss, rss_after), (fds, fds_after), (tasks, tasks_after) = map(middles, range(1, 4))
    return {
        "rss_ratio": rss_after / rss,
        "descriptors": fds_after - fds,
        "tasks": tasks_after - tasks,
    }
