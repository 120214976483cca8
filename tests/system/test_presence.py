"""Presence is what is true: with several connections, flapping, dead pods and a name taken over."""

from __future__ import annotations

import asyncio
import random

import pytest

from pushserver.core.close_codes import CloseCode
from tests.engines.engine import Engine
from tests.pod import eventually
from tests.pod_process import PodProcess
from tests.system.listener import Listener
from tests.system.stage import BUSY_S, LEASE_S, Stage, meanwhile, stage, together

pytestmark = pytest.mark.system

POOL = 8
"""Connections to a node of Redis that a pod opens when it needs them (`redis.max_connections`)."""
ROOM = {"handshakes_per_s": 0, "connections_per_user": 100}


async def at_rest(pod: PodProcess, connections: int) -> None:
    """Wait until the pod has that many connections and nothing of presence left to write."""

    async def resting() -> bool:
        stats = await pod.stats()
        return bool(stats["connections"] == connections and stats["unflushed_presence"] == 0)

    await eventually(resting)


@pytest.mark.gen_test(timeout=60)
async def test_presence_stays_until_the_last_connection_of_a_user_closes(engine: Engine) -> None:
    """Two connections, closed in either order, in either way."""
    async with stage(engine, inbox={"rescan_s": 0}) as on:
        pod = await on.pods.start("pod-1")
        for first in (0, 1):
            for leave in (Listener.leave, Listener.vanish):
                two = [await on.live(pod, "alice"), await on.live(pod, "alice")]
                assert on.presence("alice") == {"pod-1"}
                await leave(two[first])
                await at_rest(pod, 1)
                assert on.presence("alice") == {"pod-1"}
                assert on.indexed("pod-1") == {"alice"}
                await leave(two[1 - first])
                await at_rest(pod, 0)
                assert on.everyone() == {}
                assert on.indexed("pod-1") == set()


async def flap(on: Stage, pods: list[PodProcess], user: str, times: int, chance: random.Random) -> None:
    """Come and go `times` times, in every way there is."""
    for _ in range(times):
        listener = await on.listen(chance.choice(pods), user)
        if chance.random() < 0.5:
            await eventually(lambda: listener.live)  # noqa: B023 - awaited within its turn
        await (listener.leave() if chance.random() < 0.5 else listener.vanish())


async def never_absent(on: Stage, user: str, pod: str) -> None:
    """Look until cancelled; fails when the user is seen absent."""
    looks = 0
    while True:
        assert pod in on.presence(user), f"absent at look {looks}"
        looks += 1
        await asyncio.sleep(0.002)


@pytest.mark.gen_test(timeout=120)
@pytest.mark.parametrize("names", [["pod-1"], ["pod-1", "pod-2"]])
async def test_presence_is_exact_after_500_flaps(engine: Engine, names: list[str]) -> None:
    """Ten clients of three users at once. Who stays meanwhile is never absent, beside any flapping."""
    async with stage(engine, limits=ROOM, inbox={"rescan_s": 0}, pod={"lease_ms": 15_000}) as on:
        pods = [await on.pods.start(name) for name in names]
        stays = [await on.live(pod, "alice") for pod in pods]
        await together(*(at_rest(pod, 1) for pod in pods))
        baseline = [((await pod.stats())["tasks"], pod.open_files) for pod in pods]
        chance = random.Random(500)
        users = ["alice", "bob", "carol"]
        async with meanwhile(*(never_absent(on, "alice", name) for name in names)):
            await together(*(flap(on, pods, users[number % 3], 50, chance) for number in range(10)))
            await together(*(at_rest(pod, 1) for pod in pods))
        for pod, (tasks, files) in zip(pods, baseline, strict=True):
            assert (await pod.stats())["tasks"] == tasks
            assert pod.open_files <= files + POOL * len(engine.nodes)
        assert on.everyone() == {"alice": set(names)}
        assert [on.indexed(name) for name in names] == [{"alice"}] * len(names)
        for listener in stays:
            await listener.leave()
        await together(*(at_rest(pod, 0) for pod in pods))
        assert on.everyone() == {}


@pytest.mark.gen_test(timeout=60)
async def test_a_dead_pod_is_reaped_within_its_lease_and_leaves_no_key(engine: Engine) -> None:
    """Killed with 50 users on it; one of them is on the living pod, too, and stays there."""
    async with stage(engine) as on:
        dying, other = await together(on.pods.start("pod-1"), on.pods.start("pod-2"))
        bystander = await on.bystander(other, "user-7")
        listeners = [await on.live(dying, f"user-{number}") for number in range(50)]
        assert on.presence("user-7") == {"pod-1", "pod-2"}
        dying.kill()
        expires_ms = int(on.redis.hget("ps:pod:{pod-1}", "expires"))
        await eventually(lambda: not on.keys_of("pod-1"), LEASE_S + 2 + BUSY_S)
        seconds, micros = on.redis.time()
        assert seconds * 1000 + micros // 1000 >= expires_ms, "a lease was not respected"
        assert on.everyone() == {"user-7": {"pod-2"}}
        # Said after the last key went.
        await eventually(lambda: [line["users"] for line in other.events("pod.reaped")] == [50])
        for listener in listeners:
            await listener.ended()
        await bystander.was_unharmed()


@pytest.mark.gen_test(timeout=60)
async def test_the_newer_process_of_a_name_wins_and_the_older_drains_with_exit_code_3(
    engine: Engine,
) -> None:
    """alice is on the older one; bob comes to the newer one while he is still on the older one."""
    async with stage(engine, inbox={"rescan_s": 0}) as on:
        older = await on.pods.start("pod-1")
        older.expected_exit, older.expected_errors = 3, {"pod.taken_over"}
        alice, bob = await on.live(older, "alice"), await on.live(older, "bob")
        boot = on.boot("pod-1")
        newer = await on.pods.start("pod-1")
        there = await on.live(newer, "bob")
        for listener in (alice, bob):
            assert (await listener.ended()).code == CloseCode.SERVICE_RESTART
        assert await older.exit_code() == 3
        assert on.boot("pod-1") > boot
        ids = await on.backend.send_many("alice", 5)
        await eventually(lambda: on.everyone() == {"bob": {"pod-1"}})
        assert f'"boot":{on.boot("pod-1")},' in on.redis.hget("ps:presence:{bob}", "bob:pod-1")
        assert await on.reads_all(newer, "alice") == ids
        assert there.closed is None
        assert on.indexed("pod-1") >= {"bob"}
        await there.leave()
