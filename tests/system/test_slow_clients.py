"""Clients that stop reading, or read and never answer: bounded, cut by 4408, nothing lost, nobody harmed."""

from __future__ import annotations

import time

import pytest

from pushserver.core.close_codes import CloseCode
from tests.engines.engine import Engine
from tests.pod import eventually
from tests.pod_process import PodProcess
from tests.system.stage import stage, together

pytestmark = pytest.mark.system

QUICK = {"ping_interval_s": 1, "ping_timeout_s": 1}
TIMEOUT_S = 3.0
"""For whoever has to be looked at before the cut."""
MIB = 1024 * 1024


async def unconfirmed(pod: PodProcess, user: str) -> list[int]:
    """What is unconfirmed on each of the user's connections."""
    return [one["unconfirmed"] for one in (await pod.get(f"/v1/users/{user}"))[1]["connections"]]


@pytest.mark.gen_test(timeout=60)
async def test_a_client_that_never_pongs_gets_one_window_and_is_cut(any_engine: Engine) -> None:
    """It reads all the time. 256 messages, or 1 MiB of larger ones; then 4408, and everything still waits."""
    async with stage(any_engine, delivery=QUICK | {"ping_timeout_s": TIMEOUT_S}) as on:
        pod = await on.pods.start("pod-1")
        bystander = await on.bystander(pod)
        small = await on.backend.send_many("alice", 600)
        large = await on.backend.send_many("bob", 200, "x" * 8192)
        began = time.monotonic()
        alice, bob = await on.listen(pod, "alice", pongs=False), await on.listen(pod, "bob", pongs=False)
        await eventually(lambda: len(alice.ids) == 256 and len(bob.ids) == MIB // 8300)
        assert await unconfirmed(pod, "alice") == [256]
        for listener in (alice, bob):
            assert (await listener.ended()).code == CloseCode.NO_PROGRESS
        # The time-out, a tick of the wheel, and room for a busy machine.
        assert TIMEOUT_S <= time.monotonic() - began < TIMEOUT_S + 0.25 + 3
        assert len(alice.ids) == 256
        assert len(bob.ids) == MIB // 8300
        assert (on.inbox("alice"), on.inbox("bob")) == (small, large)
        await eventually(lambda: set(on.everyone()) == {"bystander"})
        assert await on.reads_all(pod, "alice") == small
        assert await on.reads_all(pod, "bob") == large
        await bystander.was_unharmed()


@pytest.mark.gen_test(timeout=60)
async def test_a_client_that_stops_reading_costs_bounded_memory_and_is_cut(any_engine: Engine) -> None:
    """Ten of them with 4 MiB waiting each. None costs the pod more than its window and a little."""
    users = [f"slow-{number}" for number in range(10)]
    content = {"cache_bytes": MIB}
    async with stage(any_engine, delivery=QUICK | {"ping_timeout_s": TIMEOUT_S}, content=content) as on:
        pod = await on.pods.start("pod-1")
        bystander = await on.bystander(pod)
        ids = {user: await on.backend.send_many(user, 500, "x" * 8192) for user in users}
        before = pod.figures("VmRSS")
        clients = [await on.connect(pod, user) for user in users]

        async def full() -> bool:
            windows = await together(*(unconfirmed(pod, user) for user in users))
            return windows == [[MIB // 8300]] * len(users)

        await eventually(full)
        await eventually(lambda: set(on.everyone()) == {"bystander"}, 15)
        # A window of 1 MiB, as much again while a write is put together, and the cache.
        assert pod.figures("VmHWM") - before < (10 * 2 + 4) * 1024
        assert await pod.metric('pushserver_closes_total{code="4408"}') == len(users)
        for client in clients:
            client.vanish()
        assert {user: on.inbox(user) for user in users} == ids
        assert await on.reads_all(pod, "slow-0") == ids["slow-0"]
        await bystander.was_unharmed()
