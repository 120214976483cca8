"""The orders of delivery, each held still at the moment that matters. No rescan: it would hide mistakes.

The numbers are those of the rules in the protocol's model: what must hold so that nothing is lost, doubled
or late, whatever two pods, two devices and a publisher do at the same time.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pushserver.delivery.connection import State
from pushserver.stores.inbox import Appended
from tests.client import Client
from tests.engines.redis_server import RedisServer
from tests.gate import hold
from tests.pod import Pod, eventually, running_pod, settings


def configured(redis_server: RedisServer, name: str = "pod-1") -> Any:
    """A pod without a rescan."""
    return settings(redis_server.url, pod={"name": name}, inbox={"rescan_s": 0})


async def publish(message_id: str, *pods: Pod, hint: bool = True) -> Appended:
    """Publish to alice through the first of `pods`, and hint those that she is on right after the append."""
    (appended,) = await pods[0].app.publisher.to_users(["alice"], "hello", message_id=message_id, ttl_s=60)
    for pod in pods:
        if hint and pod.app.pod in appended.pods:
            hint_at(pod)
    return appended


def hint_at(pod: Pod) -> None:
    """What a hint for alice does at her pod."""
    for connection in pod.app.manager.of("alice"):
        pod.app.sessions.look_again(connection)


async def barrier(*pods: Pod) -> None:
    """Whatever could have been sent by now was sent and answered, unless it is held."""
    for pod in pods:
        for _ in range(3):
            await pod.app.stores.commands.call("PING")


async def silent(client: Client) -> None:
    """Fail if anything comes before the answer to a ping that is asked for now."""
    await client.send({"type": "ping"})
    assert await client.frame() == {"type": "pong"}


def exposed(redis_server: RedisServer) -> list[str]:
    """Ids of the exposure events so far."""
    with redis_server.client() as redis:
        return [json.loads(entry["data"])["message_id"] for _, entry in redis.xrange("ps:exposures")]


# -- 2


@pytest.mark.gen_test
async def test_2_a_message_that_comes_before_presence_was_written_is_in_the_page_that_is_read(
    redis_server: RedisServer,
) -> None:
    async with running_pod(configured(redis_server)) as pod:
        write = hold(pod.app.stores.commands, "presence_set")
        client = await pod.connect("alice")
        await write.reached.wait()
        assert (await publish("m-1", pod)).pods == ()
        write.open()
        assert [frame["type"] for frame in await client.until("live")] == ["welcome", "message", "live"]


@pytest.mark.gen_test
async def test_2_a_message_that_comes_after_presence_was_written_finds_it(redis_server: RedisServer) -> None:
    async with running_pod(configured(redis_server)) as pod:
        write = hold(pod.app.stores.commands, "presence_set", answers=True)
        client = await pod.connect("alice")
        await write.reached.wait()
        assert (await publish("m-1", pod)).pods == ("pod-1",)
        write.open()
        assert [frame["id"] for frame in await client.messages(1)] == ["m-1"]


# -- 3


@pytest.mark.gen_test
async def test_3_a_removal_under_way_does_not_serve_the_connect_that_came_after_it_had_looked(
    redis_server: RedisServer,
) -> None:
    """The user leaves and comes back; served by the removal, he would be absent, and wait for ever."""
    async with running_pod(configured(redis_server)) as pod:
        client = await pod.connect("alice")
        await client.until("live")
        removal = hold(pod.app.stores.commands, "presence_remove", answers=True)
        await client.close()
        await removal.reached.wait()
        back = await pod.connect("alice")
        await eventually(lambda: pod.app.manager.has("alice"))
        await barrier(pod)
        assert pod.app.manager.of("alice")[0].state is State.CATCHING_UP
        removal.open()
        await back.until("live")
        assert (await publish("m-1", pod)).pods == ("pod-1",)
        assert [frame["id"] for frame in await back.messages(1)] == ["m-1"]


# -- 4


@pytest.mark.gen_test
@pytest.mark.parametrize("step", ["presence_set", "inbox_read"])
async def test_4_a_hint_that_meets_a_read_under_way_causes_one_more(
    redis_server: RedisServer, step: str
) -> None:
    """The page on its way is empty, and the message came after it was read."""
    async with running_pod(configured(redis_server)) as pod:
        commands = pod.app.stores.commands
        if step == "presence_set":
            read = hold(commands, step, answers=True)
            client = await pod.connect("alice")
        else:
            client = await pod.connect("alice")
            await client.until("live")
            read = hold(commands, step, answers=True)
            hint_at(pod)
        await read.reached.wait()
        await publish("m-1", pod)
        read.open()
        assert [frame["id"] for frame in await client.messages(1)] == ["m-1"]


# -- 9


@pytest.mark.gen_test
async def test_9_what_settles_while_a_page_with_it_is_on_its_way_is_not_pushed_again(
    redis_server: RedisServer,
) -> None:
    async with running_pod(configured(redis_server)) as pod:
        await publish("m-1", pod)
        client = await pod.connect("alice")
        client.pongs = False
        await client.until("live")
        (connection,) = pod.app.manager.of("alice")
        await silent(client)
        read = hold(pod.app.stores.commands, "inbox_read", answers=True)
        hint_at(pod)
        await read.reached.wait()
        await client.send_frame(0xA, client.pings[-1])
        await eventually(lambda: not connection.unconfirmed and not pod.app.settler.waiting)
        assert await pod.app.stores.commands.call("LLEN", "ps:inbox:{alice}") == 0
        read.open()
        await eventually(lambda: connection.state is State.LIVE)
        await silent(client)
        assert connection.sent == {}


# -- 10


@pytest.mark.gen_test
async def test_10_a_publish_that_is_repeated_after_the_message_was_settled_appends_nothing(
    redis_server: RedisServer,
) -> None:
    """Its first answer was lost, or it was only slow; `msg:ID` is still there and tells nothing."""
    async with running_pod(configured(redis_server)) as pod:
        client = await pod.connect("alice")
        await client.until("live")
        await publish("m-1", pod)
        await client.messages(1)
        await silent(client)  # answers the ping behind the message
        await eventually(lambda: pod.app.settler.waiting == 0)
        assert await pod.inbox("alice") == []
        again = await publish("m-1", pod, hint=False)
        assert (again.new, again.waiting, again.seq) == (False, False, 1)
        assert await pod.inbox("alice") == []
        hint_at(pod)
        await eventually(lambda: pod.app.manager.of("alice")[0].state is State.LIVE)
        await silent(client)


# -- 11


@pytest.mark.gen_test
async def test_11_a_message_leaves_the_inbox_after_its_confirm_and_not_on_its_push(
    redis_server: RedisServer,
) -> None:
    """The connection breaks before the client has read."""
    async with running_pod(configured(redis_server)) as pod:
        removal = hold(pod.app.stores.commands, "inbox_remove")
        client = await pod.connect("alice")
        client.pongs = False
        await client.until("live")
        await publish("m-1", pod)
        await client.messages(1)
        await barrier(pod)
        assert removal.count == 0
        client.vanish()
        await eventually(lambda: not pod.app.manager.has("alice"))
        removal.open()
        assert await pod.inbox("alice") == ["m-1"]
        back = await pod.connect("alice")
        assert [frame["id"] for frame in await back.messages(1)] == ["m-1"]


# -- 12


@pytest.mark.gen_test
async def test_12_a_message_leaves_the_inbox_after_its_exposure_was_accepted(
    redis_server: RedisServer,
) -> None:
    """Killed in between, it comes again with the next connection, and is exposed then."""
    async with running_pod(configured(redis_server)) as pod:
        exposure = hold(pod.app.stores.commands, "exposure_add")
        client = await pod.connect("alice")
        await client.until("live")
        await publish("m-1", pod)
        await client.messages(1)
        await silent(client)
        await exposure.reached.wait()
        await barrier(pod)
        assert (await pod.inbox("alice"), exposed(redis_server)) == (["m-1"], [])
        await pod.kill()
        exposure.drop()
    async with running_pod(configured(redis_server)) as pod:
        client = await pod.connect("alice")
        assert [frame["id"] for frame in await client.messages(1)] == ["m-1"]
        await client.until("live")
        await silent(client)
        await eventually(lambda: exposed(redis_server) == ["m-1"])


@pytest.mark.gen_test
async def test_12_what_was_removed_had_been_exposed(redis_server: RedisServer) -> None:
    async with running_pod(configured(redis_server)) as pod:
        removal = hold(pod.app.stores.commands, "inbox_remove")
        client = await pod.connect("alice")
        await client.until("live")
        await publish("m-1", pod)
        await client.messages(1)
        await silent(client)
        await removal.reached.wait()
        assert exposed(redis_server) == ["m-1"]
        removal.open()


# -- between them


@pytest.mark.gen_test
async def test_what_was_settled_before_a_connect_does_not_come_again_and_what_was_not_may(
    redis_server: RedisServer,
) -> None:
    """Between confirm and removal another pod cannot know better."""
    async with (
        running_pod(configured(redis_server)) as pod,
        running_pod(configured(redis_server, "pod-2")) as other,
    ):
        removal = hold(pod.app.stores.commands, "inbox_remove")
        client = await pod.connect("alice")
        await client.until("live")
        await publish("m-1", pod, other)
        await client.messages(1)
        await silent(client)
        await removal.reached.wait()
        early = await other.connect("alice")
        assert [frame["type"] for frame in await early.until("live")] == ["welcome", "message", "live"]
        removal.open()
        await eventually(lambda: pod.app.settler.waiting == 0)
        late = await other.connect("alice")
        assert [frame["type"] for frame in await late.until("live")] == ["welcome", "live"]
        await silent(early)


@pytest.mark.gen_test
async def test_a_message_reaches_every_device_that_is_connected_on_any_pod_once(
    redis_server: RedisServer,
) -> None:
    async with (
        running_pod(configured(redis_server)) as pod,
        running_pod(configured(redis_server, "pod-2")) as other,
    ):
        devices = [await where.connect("alice") for where in (pod, pod, other)]
        for device in devices:
            await device.until("live")
        # Both look before either confirms: no device is later than another's confirm.
        for device in devices:
            device.pongs = False
        await publish("m-1", pod, other)
        for device in devices:
            assert [frame["id"] for frame in await device.messages(1)] == ["m-1"]
            await silent(device)
        for device in devices:
            await device.send_frame(0xA, device.pings[-1])
        await eventually(lambda: len(exposed(redis_server)) >= 2 and not pod.app.settler.waiting)
        await eventually(lambda: asyncio.ensure_future(_is_empty(pod)))
        for device in devices:
            await silent(device)


async def _is_empty(pod: Pod) -> bool:
    return await pod.inbox("alice") == []
