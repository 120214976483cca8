"""A pod killed (-9) at each step between a message's push and its removal: nothing lost, all in order."""

from __future__ import annotations

import json

import pytest

from pushserver.exposure.event import event_id
from tests.engines.engine import Engine
from tests.engines.proxy import RedisProxy
from tests.pod import eventually
from tests.system.stage import Stage, stage

pytestmark = pytest.mark.system


def events(on: Stage) -> set[tuple[str, str]]:
    """(message, connection) of every exposure in the stream."""
    data = (json.loads(entry["data"]) for _, entry in on.redis.xrange("ps:exposures"))
    return {(event["message_id"], shown["connection"]) for event in data for shown in event["exposures"]}


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("comes_back_to", ["pod-1", "pod-2"])
async def test_what_was_pushed_and_not_confirmed_comes_again_in_order(
    any_engine: Engine, comes_back_to: str
) -> None:
    """Killed between push and confirm; the user comes back to the restarted pod, or to another."""
    async with stage(any_engine) as on:
        ids = await on.backend.send_many("alice", 20)
        pod = await on.pods.start("pod-1")
        other = pod if comes_back_to == "pod-1" else await on.pods.start("pod-2")
        bystander = await on.bystander(other) if other is not pod else None
        listener = await on.listen(pod, "alice", pongs=False)
        await eventually(lambda: listener.ids == ids)
        pod.kill()
        await listener.ended()
        assert on.inbox("alice") == ids
        ids.append(await on.backend.send("alice"))
        if other is pod:
            other = await on.pods.start("pod-1")
        assert await on.reads_all(other, "alice") == ids
        if bystander is not None:
            await bystander.was_unharmed()


@pytest.mark.gen_test(timeout=60)
async def test_a_kill_between_presence_and_pull_loses_nothing(engine: Engine) -> None:
    """Redis has written the presence and read the page; the pod never hears of it."""
    async with RedisProxy(*engine.ports) as proxy, stage(engine) as on:
        ids = await on.backend.send_many("alice", 20)
        pod = await on.pods.start("pod-1", redis_url=proxy.url)
        step = proxy.hold("presence_set", answers=True)
        listener = await on.listen(pod, "alice")
        await step.reached.wait()
        pod.kill()
        step.drop()
        await listener.ended()
        assert listener.ids == []
        assert on.presence("alice") == {"pod-1"}
        other = await on.pods.start("pod-2")
        await eventually(lambda: on.presence("alice") == set())
        assert await on.reads_all(other, "alice") == ids


@pytest.mark.gen_test(timeout=60)
async def test_a_kill_between_confirm_and_exposure_brings_both_again(any_engine: Engine) -> None:
    async with RedisProxy(*any_engine.ports) as proxy, stage(any_engine) as on:
        ids = await on.backend.send_many("alice", 20)
        pod = await on.pods.start("pod-1", redis_url=proxy.url)
        step = proxy.hold("exposure_add")
        listener = await on.listen(pod, "alice")
        await step.reached.wait()
        pod.kill()
        step.drop()
        await listener.ended()
        assert listener.ids == ids == on.inbox("alice")
        assert events(on) == set()
        other = await on.pods.start("pod-1")
        again = await on.live(other, "alice")
        await on.settled("alice")
        assert events(on) == {(message_id, again.line.id) for message_id in ids}
        await again.leave(quiet=True)


@pytest.mark.gen_test(timeout=60)
async def test_a_kill_between_exposure_and_removal_makes_two_true_events(engine: Engine) -> None:
    """Killed after the confirm, before LREM: delivered again, and each delivery has its own event."""
    async with RedisProxy(*engine.ports) as proxy, stage(engine) as on:
        ids = await on.backend.send_many("alice", 20)
        pod = await on.pods.start("pod-1", redis_url=proxy.url)
        step = proxy.hold("inbox_remove")
        listener = await on.listen(pod, "alice")
        await step.reached.wait()
        pod.kill()
        step.drop()
        await listener.ended()
        assert listener.ids == ids == on.inbox("alice")
        other = await on.pods.start("pod-1")
        again = await on.live(other, "alice")
        await on.settled("alice")
        assert again.ids == ids
        lines = [listener.line.id, again.line.id]
        assert events(on) == {(message_id, line) for message_id in ids for line in lines}
        assert len({event_id(message_id, "alice", line) for message_id in ids for line in lines}) == 40
        await again.leave(quiet=True)


@pytest.mark.gen_test(timeout=60)
async def test_a_removal_whose_answer_is_lost_is_repeated_and_harms_nothing(
    engine: Engine,
) -> None:
    """No kill: the connection to Redis breaks after LREM was done. The client stays, gets nothing twice."""
    async with RedisProxy(*engine.ports) as proxy, stage(engine) as on:
        ids = await on.backend.send_many("alice", 20)
        pod = await on.pods.start("pod-1", redis_url=proxy.url)
        step = proxy.hold("inbox_remove", answers=True)
        listener = await on.live(pod, "alice")
        await step.reached.wait()
        assert on.inbox("alice") == []
        ids.append(await on.backend.send("alice"))
        step.drop()
        await eventually(lambda: listener.ids == ids)
        await on.settled("alice")
        await listener.leave(quiet=True)
