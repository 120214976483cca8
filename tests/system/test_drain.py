"""A pod's orderly leaving: readiness first, everyone told, nothing lost, in time."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from pushserver.core.close_codes import CloseCode
from tests.client import Refused
from tests.engines.engine import Engine
from tests.engines.proxy import RedisProxy
from tests.pod import eventually
from tests.pod_process import PodProcess
from tests.system.stage import Stage, stage, together

pytestmark = pytest.mark.system

SPREAD_S = 2.0
EXIT_S = 2.0
"""What an interpreter takes to end, on a busy machine."""


async def leaves_nothing_behind(on: Stage, pod: PodProcess) -> None:
    """Exit code 0, and no presence, lease or index is left."""
    assert await pod.exit_code() == 0
    assert on.everyone() == {}
    assert on.keys_of(pod.name) == []


async def turned_away(on: Stage, pod: PodProcess, user: str) -> int | None:
    """The status of the refusal, or the code that the connection was closed with."""
    try:
        listener = await on.listen(pod, user)
    except Refused as refused:
        return refused.status
    return (await listener.ended()).code


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_readiness_first_then_everyone_spread(
    any_engine: Engine, number: signal.Signals
) -> None:
    """30 clients; what is published meanwhile is there for them at another pod."""
    async with stage(any_engine, drain={"spread_s": SPREAD_S, "timeout_s": 20}) as on:
        pod = await on.pods.start("pod-1")
        assert (await pod.get("/readyz"))[0] == 200
        users = [f"user-{one}" for one in range(30)]
        clients = await together(*(on.live(pod, user) for user in users))
        began = time.monotonic()
        pod.signal(number)
        await eventually(lambda: any(client.closed for client in clients))
        assert (await pod.get("/readyz"))[0] == 503
        with pytest.raises(Refused) as refused:
            await pod.connect("late")
        assert (refused.value.status, refused.value.error["code"]) == (503, "draining")
        assert int(refused.value.headers["retry-after"]) > 0
        assert not all(client.closed for client in clients), "nobody was left to be spread"
        for user in users:
            await on.backend.send(user)
        assert {(await client.ended()).code for client in clients} == {CloseCode.SERVICE_RESTART}
        assert time.monotonic() - began > SPREAD_S / 2
        await leaves_nothing_behind(on, pod)
        assert time.monotonic() - began < SPREAD_S + 6
        other = await on.pods.start("pod-2")
        await together(*(on.reads_all(other, user) for user in users))


@pytest.mark.gen_test(timeout=60)
async def test_what_was_confirmed_before_the_drain_is_settled_before_the_exit(
    any_engine: Engine,
) -> None:
    """Its removal is held when the signal comes, tried again while the pod drains, and then let go."""
    drain = {"spread_s": 0.1, "timeout_s": 15}
    async with RedisProxy(*any_engine.ports) as proxy, stage(any_engine, drain=drain) as on:
        ids = await on.backend.send_many("alice", 20)
        pod = await on.pods.start("pod-1", redis_url=proxy.url)
        step = proxy.hold("inbox_remove")
        listener = await on.live(pod, "alice")
        await step.reached.wait()
        pod.terminate()
        assert (await listener.ended()).code == CloseCode.SERVICE_RESTART
        tried = step.count
        await eventually(lambda: step.count > tried)
        assert on.inbox("alice") == ids
        step.open()
        await leaves_nothing_behind(on, pod)
        assert on.inbox("alice") == []
        listener.line.quiet = True


@pytest.mark.gen_test(timeout=60)
async def test_a_stalled_client_does_not_hold_the_drain(any_engine: Engine) -> None:
    """It reads nothing, so its goodbye does not come through; it is cut. The others are told in time."""
    async with stage(any_engine, drain={"spread_s": 0.1, "timeout_s": 8}) as on:
        ids = await on.backend.send_many("stalled", 300, "x" * 8192)
        pod = await on.pods.start("pod-1")
        await on.connect(pod, "stalled")
        healthy = await on.live(pod, "healthy")

        async def full() -> bool:
            shown = (await pod.get("/v1/users/stalled"))[1]
            return [one["unconfirmed"] > 100 for one in shown["connections"]] == [True]

        await eventually(full)
        began = time.monotonic()
        pod.terminate()
        assert (await healthy.ended(5.0)).code == CloseCode.SERVICE_RESTART
        await leaves_nothing_behind(on, pod)
        assert time.monotonic() - began < 8 + EXIT_S
        assert on.inbox("stalled") == ids


@pytest.mark.gen_test(timeout=60)
async def test_a_spread_as_long_as_the_drain_is_cut_short_and_everyone_is_told(
    any_engine: Engine,
) -> None:
    async with stage(any_engine, drain={"spread_s": 2.9, "timeout_s": 3}) as on:
        pod = await on.pods.start("pod-1")
        clients = await together(*(on.live(pod, f"user-{one}") for one in range(30)))
        began = time.monotonic()
        pod.terminate()
        assert {(await client.ended()).code for client in clients} == {CloseCode.SERVICE_RESTART}
        await leaves_nothing_behind(on, pod)
        assert time.monotonic() - began < 3 + EXIT_S


@pytest.mark.gen_test(timeout=60)
async def test_a_signal_right_after_the_start_drains_like_any_other(any_engine: Engine) -> None:
    async with stage(any_engine) as on:
        pod = await on.pods.start("pod-1")
        pod.terminate()
        await leaves_nothing_behind(on, pod)


@pytest.mark.gen_test(timeout=60)
async def test_a_second_signal_hurries(any_engine: Engine) -> None:
    """A drain that would take 6 s, for it says 20 goodbyes a second, takes as long as the goodbyes."""
    async with stage(any_engine, drain={"spread_s": 60, "timeout_s": 90}) as on:
        pod = await on.pods.start("pod-1")
        clients = await together(*(on.live(pod, f"user-{one}") for one in range(120)))
        pod.terminate()
        await eventually(lambda: pod.events("pod.stopping"))
        began = time.monotonic()
        pod.terminate()
        assert {(await client.ended()).code for client in clients} == {CloseCode.SERVICE_RESTART}
        await leaves_nothing_behind(on, pod)
        assert time.monotonic() - began < 5
        assert pod.events("pod.hurried")


@pytest.mark.gen_test(timeout=60)
async def test_a_handshake_under_way_when_the_signal_comes_does_not_hold_the_drain(
    any_engine: Engine,
) -> None:
    """It was admitted before, and its categories come while others are told: refused, or told as they."""
    drain = {"spread_s": 1, "timeout_s": 30}
    async with RedisProxy(*any_engine.ports) as proxy, stage(any_engine, drain=drain) as on:
        pod = await on.pods.start("pod-1", redis_url=proxy.url)
        clients = await together(*(on.live(pod, f"user-{one}") for one in range(10)))
        step = proxy.hold("HGETALL")
        coming = asyncio.ensure_future(turned_away(on, pod, "alice"))
        await step.reached.wait()
        pod.terminate()
        await eventually(lambda: any(client.closed for client in clients))
        step.open()
        assert await coming in {503, CloseCode.SERVICE_RESTART}
        await leaves_nothing_behind(on, pod)


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_drain_while_redis_is_away_ends_in_time(engine: Engine, how: str) -> None:
    """The client is told, the exit is 0; the lease runs out, and what was not settled comes again."""
    timeout_s = 2.0
    drain = {"spread_s": 0.1, "timeout_s": timeout_s}
    slow = {"lease_ms": 60_000}
    async with RedisProxy(*engine.ports) as proxy, stage(engine, drain=drain, pod=slow) as on:
        ids = await on.backend.send_many("alice", 20)
        pod = await on.pods.start("pod-1", redis_url=proxy.url, redis={"timeout_ms": 12_000})
        pod.expected_errors = {"exposure.sink_away"}
        step = proxy.hold("inbox_remove")
        listener = await on.live(pod, "alice")
        await step.reached.wait()
        if how == "killed":
            proxy.refuse()
        else:
            proxy.partition()
        began = time.monotonic()
        pod.terminate()
        assert (await listener.ended()).code == CloseCode.SERVICE_RESTART
        assert await pod.exit_code() == 0
        assert time.monotonic() - began < timeout_s + EXIT_S
        assert on.inbox("alice") == ids
        assert on.presence("alice") == {"pod-1"}
        step.drop()
        other = await on.pods.start("pod-1")
        assert await on.reads_all(other, "alice") == ids
