"""Redis killed, emptied, frozen and cut off under live connections and load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import pytest

from tests.client import Refused
from tests.engines.engine import Engine
from tests.engines.proxy import RedisProxy
from tests.pod import eventually
from tests.pod_process import PodProcess
from tests.system.listener import Faithful
from tests.system.stage import BUSY_S, LEASE_S, Stage, meanwhile, stage, together

pytestmark = pytest.mark.system

USERS = ("alice", "bob", "carol", "dave")
RIGHT_WITHIN_S = LEASE_S + 2 + BUSY_S
"""P5: presence is right within one lease + 2 s after a fault has ended."""
WAIT_S = 1.0
"""How long a connecting client waits for Redis here (`redis.connect_wait_ms`)."""
BACK_WITHIN_S = LEASE_S + 5 + BUSY_S
"""P7: back to full service."""


def load(on: Stage) -> AbstractAsyncContextManager[None]:
    """Messages to every user, all the time; what fails is repeated under its id."""
    return meanwhile(*(on.backend.keep_sending(user, 0.01) for user in USERS))


async def arrived(on: Stage, users: Sequence[Faithful]) -> None:
    """Wait until everybody has received all that was accepted."""
    accepted = on.history.accepted
    await eventually(lambda: all(set(accepted[one.user]) <= one.received for one in users), BACK_WITHIN_S)


async def stayed(users: Sequence[Faithful]) -> None:
    """Fail if somebody had to connect more than once."""
    assert {one.user: one.connects for one in users} == {one.user: 1 for one in users}


def right(on: Stage, pods: Sequence[PodProcess]) -> bool:
    """USERS are present in turn on these pods, each under its present boot, and nobody else is anywhere."""
    for number, user in enumerate(USERS):
        pod = pods[number % len(pods)].name
        field = on.redis.hget(f"ps:presence:{{{user}}}", f"{user}:{pod}") or ""
        if f'"boot":{on.boot(pod)},' not in field or on.presence(user) != {pod}:
            return False
    return set(on.everyone()) == set(USERS)


async def nobody_is_ready(pods: Sequence[PodProcess]) -> bool:
    return [(await pod.get("/readyz"))[0] for pod in pods] == [503] * len(pods)


async def two_pods(on: Stage) -> tuple[list[PodProcess], list[Faithful]]:
    """Two pods with two users each, connected."""
    pods = await together(on.pods.start("pod-1"), on.pods.start("pod-2"))
    users = [on.faithful(user, pods[number % 2]) for number, user in enumerate(USERS)]
    await eventually(lambda: right(on, pods))
    return pods, users


@pytest.mark.gen_test(timeout=90)
async def test_a_restart_of_redis_under_load_loses_nothing_and_disturbs_nobody(
    engine: Engine,
) -> None:
    """Killed, away for a second, started again on its append-only file. Who comes meanwhile gets a 503."""
    async with stage(engine, redis={"connect_wait_ms": int(WAIT_S * 1000)}) as on:
        pods, users = await two_pods(on)
        for pod in pods:
            pod.expected_errors = {"exposure.sink_away"}
        asking = [await on.bystander(pod, "dave") for pod in pods]
        async with load(on):
            await eventually(lambda: all(len(one.received) > 10 for one in users))
            engine.kill()
            await eventually(lambda: all(pod.events("lease.heartbeat_failed") for pod in pods))
            await eventually(lambda: nobody_is_ready(pods))
            began = time.monotonic()
            with pytest.raises(Refused) as refused:
                await pods[0].connect("late")
            assert refused.value.status == 503
            assert int(refused.value.headers["retry-after"]) > 0
            assert time.monotonic() - began < WAIT_S + BUSY_S
            await asyncio.to_thread(engine.start)
            sent = {user: len(ids) for user, ids in on.history.accepted.items()}
            await eventually(
                lambda: all(len(on.history.accepted[user]) > sent[user] + 10 for user in USERS), BACK_WITHIN_S
            )
        await arrived(on, users)
        for bystander in asking:
            await bystander.was_unharmed()
        await eventually(lambda: right(on, pods), RIGHT_WITHIN_S)
        await on.settled(*USERS)
        await stayed(users)
        for one in users:
            await one.leave()


@pytest.mark.gen_test(timeout=90)
@pytest.mark.parametrize("how", ["flushed", "restarted without its data"])
async def test_an_emptied_redis_is_filled_again_within_a_lease(engine: Engine, how: str) -> None:
    """Presence, leases and scripts come back; what was waiting is gone, what comes later is not."""
    async with stage(engine, inbox={"rescan_s": 0}) as on:
        for user in USERS:
            await on.backend.send_many(user, 3)
        pods, users = await two_pods(on)
        await arrived(on, users)
        await on.settled(*USERS)
        boots = [on.boot(pod.name) for pod in pods]
        on.history.excused = {(user, one) for user, ids in on.history.accepted.items() for one in ids}
        if how == "flushed":
            on.redis.flushall()
            on.redis.script_flush()
        else:
            engine.kill()
            engine.erase()
            await asyncio.to_thread(engine.start)
        # As many as before, and before any heartbeat: the sequence alone does not tell that they are new.
        for user in USERS:
            await eventually(lambda: on.backend.try_to_send(user))  # noqa: B023 - awaited in its turn
            await on.backend.send_many(user, 2)
        await eventually(lambda: right(on, pods), RIGHT_WITHIN_S)
        assert all(on.boot(pod.name) > boot for pod, boot in zip(pods, boots, strict=True))
        await arrived(on, users)
        await on.settled(*USERS)
        await stayed(users)
        for one in users:
            await one.leave()


@pytest.mark.gen_test(timeout=90)
async def test_a_redis_frozen_longer_than_the_leases_reaps_nobody_who_is_alive(
    engine: Engine,
) -> None:
    """Meanwhile one user leaves, and another comes, who waits for Redis and gets in."""
    async with stage(engine, redis={"connect_wait_ms": 10_000}) as on:
        pods, users = await two_pods(on)
        for pod in pods:
            # After the thaw a feed may bring a message before its pod has tried Redis again.
            pod.expected_errors = {"exposure.sink_away"}
        bystander = await on.bystander(pods[0], "carol")
        leaving = await on.live(pods[0], "leaving")
        engine.freeze()
        await leaving.leave()
        coming = asyncio.ensure_future(on.live(pods[1], "dave"))
        await eventually(lambda: all(pod.events("lease.heartbeat_failed") for pod in pods))
        await asyncio.sleep(LEASE_S)
        engine.thaw()
        await eventually(lambda: right(on, pods), RIGHT_WITHIN_S)
        assert not any(pod.events("pod.reaped") for pod in pods)
        for user in USERS:
            await on.backend.send_many(user, 3)
        await arrived(on, users)
        await eventually(coming.done)
        assert coming.result().closed is None
        await on.settled(*USERS)
        await stayed(users)
        await bystander.was_unharmed()
        # For good: not only at that moment.
        await asyncio.sleep(LEASE_S)
        assert right(on, pods)
        for one in users:
            await one.leave()


@pytest.mark.gen_test(timeout=90)
async def test_a_pod_cut_off_longer_than_its_lease_is_reaped_and_comes_back_under_a_new_boot(
    engine: Engine,
) -> None:
    """It keeps its clients. What it sent while it was cut off arrives late, and harms nothing."""
    async with RedisProxy(*engine.ports) as proxy, stage(engine) as on:
        pods = await together(on.pods.start("pod-1", redis_url=proxy.url), on.pods.start("pod-2"))
        cut_off, other = pods
        users = [on.faithful(user, pods[number % 2]) for number, user in enumerate(USERS)]
        await eventually(lambda: right(on, pods))
        bystander = await on.bystander(cut_off, "alice")
        cut_off.expected_errors = {"exposure.sink_away"}
        boot = on.boot("pod-1")
        async with load(on):
            proxy.partition()
            await eventually(lambda: not on.keys_of("pod-1"))
            assert on.presence("alice") == set()
            assert on.presence("bob") == {"pod-2"}
            proxy.heal()
            await eventually(lambda: right(on, pods), RIGHT_WITHIN_S)
        assert on.boot("pod-1") > boot
        assert [line["dead_pod"] for line in other.events("pod.reaped")] == ["pod-1"]
        await arrived(on, users)
        await on.settled(*USERS)
        await stayed(users)
        await bystander.was_unharmed()
        for one in users:
            await one.leave()


@pytest.mark.gen_test(timeout=90)
async def test_a_slow_redis_costs_time_and_nothing_else(engine: Engine) -> None:
    """Each answer 100 ms late: 50 users come at once, and the round trips are few; the lease is kept."""
    pods = {"lease_ms": 5000}
    async with (
        RedisProxy(*engine.ports) as proxy,
        stage(engine, pod=pods, redis={"timeout_ms": 1500}) as on,
    ):
        pod = await on.pods.start("pod-1", redis_url=proxy.url)
        bystander = await on.bystander(pod)
        users = [f"user-{number}" for number in range(50)]
        ids = [await on.backend.send(user) for user in users]
        proxy.delay_s = 0.1
        before = await pod.metric("pushserver_redis_round_trips_total")
        listeners = await together(*(on.live(pod, user) for user in users))
        assert [listener.ids for listener in listeners] == [[one] for one in ids]
        await on.settled(*users)
        round_trips = await pod.metric("pushserver_redis_round_trips_total") - before
        assert round_trips < len(users) * len(engine.nodes)
        assert on.boot("pod-1") == (await pod.stats())["boot"] == 1
        assert set(on.everyone()) == {"bystander", *users}
        await bystander.was_unharmed()
        for listener in listeners:
            await listener.leave(quiet=True)
