"""The orders of delivery, each held still at the moment that matters. No rescan: it would hide mistakes.

The numbers are those of the rules in the protocol's model: what must hold so that nothing is lost, doubled
or late, whatever two pods, two devices and a publisher do at the same time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pushserver.core.publication import Published
from pushserver.delivery.connection import State
from tests.client import Client
from tests.engines.redis_server import RedisServer
from tests.gate import hold
from tests.pod import Pod, eventually, running_pod, settings
from tests.texts import message_text, store_text, to_users

SOON_S = 5.0
"""Long enough for a busy machine; what is hinted at takes milliseconds, and there is no rescan."""
LARGE = "x" * 2000
"""A content that does not go with its hint: whoever is hinted at looks at the inbox."""


def configured(redis_server: RedisServer, name: str = "pod-1") -> Any:
    """A pod without a rescan."""
    return settings(redis_server.url, pod={"name": name}, inbox={"rescan_s": 0})


@asynccontextmanager
async def two_pods(redis_server: RedisServer) -> AsyncIterator[tuple[Pod, Pod]]:
    """The pod that alice is on, and another that publishes."""
    async with (
        running_pod(configured(redis_server)) as pod,
        running_pod(configured(redis_server, "pod-2")) as other,
    ):
        yield pod, other


async def publish(message_id: str, pod: Pod, content: str = "hello") -> Published:
    """Publish to alice through a pod, whose hints go to the feeds of those that she is on."""
    return await pod.app.publisher.publish(to_users(["alice"], content, message_id, 60))


async def hinted(pod: Pod, count: int) -> None:
    """Wait until so many entries of its feed have arrived at a pod, and were acted on."""
    value = pod.app.metrics.registry.get_sample_value
    await eventually(lambda: value("pushserver_feed_entries_total") == count)


async def live(pod: Pod, *, pongs: bool = True) -> Client:
    """Alice, caught up."""
    client = await pod.connect("alice")
    client.pongs = pongs
    await client.until("live")
    return client


async def received(client: Client, count: int) -> list[str]:
    """The ids of the next messages, in order; soon, or something waits for what never comes."""
    async with asyncio.timeout(SOON_S):
        return [frame["id"] for frame in await client.messages(count)]


async def settled(pod: Pod) -> None:
    """Wait until all that was confirmed there is settled."""
    await eventually(lambda: not pod.app.settler.waiting)


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


# -- 1


@pytest.mark.gen_test
@pytest.mark.parametrize("answers", [False, True])
async def test_1_either_a_publish_sees_who_connects_meanwhile_or_the_connect_sees_the_message(
    redis_server: RedisServer, answers: bool
) -> None:
    """Had the publisher read presence before it appends, it would hint at nobody, and the user would wait."""
    async with two_pods(redis_server) as (pod, other):
        append = hold(other.app.stores.commands, "inbox_append", answers=answers)
        publishing = asyncio.ensure_future(publish("m-1", other))
        await append.reached.wait()
        client = await pod.connect("alice")
        frames = [frame["type"] for frame in await client.until("live")]
        assert frames == (["welcome", "message", "live"] if answers else ["welcome", "live"])
        append.open()
        assert (await publishing).online == (0 if answers else 1)
        if not answers:
            assert await received(client, 1) == ["m-1"]
        await silent(client)


# -- 2


@pytest.mark.gen_test
async def test_2_a_message_that_comes_before_presence_was_written_is_in_the_page_that_is_read(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (pod, other):
        write = hold(pod.app.stores.commands, "presence_set")
        client = await pod.connect("alice")
        await write.reached.wait()
        assert (await publish("m-1", other)).online == 0
        write.open()
        assert [frame["type"] for frame in await client.until("live")] == ["welcome", "message", "live"]


@pytest.mark.gen_test
async def test_2_a_message_that_comes_after_presence_was_written_finds_it(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (pod, other):
        write = hold(pod.app.stores.commands, "presence_set", answers=True)
        client = await pod.connect("alice")
        await write.reached.wait()
        assert (await publish("m-1", other)).online == 1
        await hinted(pod, 1)
        write.open()
        assert await received(client, 1) == ["m-1"]


# -- 3


@pytest.mark.gen_test
async def test_3_a_removal_under_way_does_not_serve_the_connect_that_came_after_it_had_looked(
    redis_server: RedisServer,
) -> None:
    """The user leaves and comes back; served by the removal, he would be absent, and wait for ever."""
    async with two_pods(redis_server) as (pod, other):
        client = await live(pod)
        removal = hold(pod.app.stores.commands, "presence_remove", answers=True)
        await client.close()
        await removal.reached.wait()
        back = await pod.connect("alice")
        await eventually(lambda: pod.app.manager.has("alice"))
        await barrier(pod)
        assert pod.app.manager.of("alice")[0].state is State.CATCHING_UP
        removal.open()
        await back.until("live")
        assert (await publish("m-1", other)).online == 1
        assert await received(back, 1) == ["m-1"]


# -- 4


@pytest.mark.gen_test
async def test_4_a_hint_that_meets_the_read_of_a_connect_causes_one_more(redis_server: RedisServer) -> None:
    """The page on its way is empty, and the message came after it was read."""
    async with two_pods(redis_server) as (pod, other):
        read = hold(pod.app.stores.commands, "presence_set", answers=True)
        client = await pod.connect("alice")
        await read.reached.wait()
        await publish("m-1", other)
        await hinted(pod, 1)
        read.open()
        assert await received(client, 1) == ["m-1"]


@pytest.mark.gen_test
async def test_4_a_hint_that_meets_the_read_that_another_hint_caused_causes_one_more(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (pod, other):
        client = await live(pod, pongs=False)
        # Pages are read until one brings nothing new: that last one is met.
        read = hold(
            pod.app.stores.commands,
            "inbox_read",
            answers=True,
            only=lambda _: bool(pod.app.manager.of("alice")[0].ledger.sent),
        )
        await publish("m-1", other, LARGE)
        assert await received(client, 1) == ["m-1"]
        await read.reached.wait()
        await publish("m-2", other)
        await hinted(pod, 2)
        read.open()
        assert await received(client, 1) == ["m-2"]


# -- 5


@pytest.mark.gen_test
async def test_5_a_repeat_that_finds_the_message_in_the_inbox_hints_again(redis_server: RedisServer) -> None:
    """The first publisher was killed between its append and its hint."""
    async with two_pods(redis_server) as (pod, other):
        client = await live(pod)
        hint = hold(other.app.stores.commands, "feed_append")
        first = asyncio.ensure_future(publish("m-1", other))
        await hint.reached.wait()
        await other.kill()
        hint.drop()
        await asyncio.wait([first])
        await silent(client)
        assert await pod.inbox("alice") == ["m-1"]
        again = await publish("m-1", pod)
        assert (again.duplicate, again.online) == (True, 1)
        assert await received(client, 1) == ["m-1"]
        await silent(client)


# -- 7


@pytest.mark.gen_test
@pytest.mark.parametrize("by", ["a publisher", "another program"])
async def test_7_while_a_page_is_on_its_way_nothing_is_pushed_past_it(
    redis_server: RedisServer, by: str
) -> None:
    """What another program put into the inbox has no sequence, so the next one's looks like the first."""
    async with two_pods(redis_server) as (pod, other):
        if by == "a publisher":
            await publish("m-1", other)
        else:
            contents = other.app.stores.contents
            await store_text(contents, "m-1", message_text("m-1", 1, "hello"), 60)
            await other.app.stores.commands.call("RPUSH", "ps:inbox:{alice}", "m-1")
        page = hold(pod.app.stores.commands, "presence_set", answers=True)
        client = await pod.connect("alice")
        await page.reached.wait()
        await publish("m-2", other)
        await hinted(pod, 1)
        page.open()
        assert await received(client, 2) == ["m-1", "m-2"]
        await client.until("live")
        await silent(client)


# -- 8


@pytest.mark.gen_test
async def test_8_hints_that_cross_push_nothing_in_the_wrong_order(redis_server: RedisServer) -> None:
    """Two publishers: the first to append is the last to hint."""
    async with two_pods(redis_server) as (pod, other):
        client = await live(pod)
        late = hold(other.app.stores.commands, "feed_append")
        first = asyncio.ensure_future(publish("m-1", other))
        await late.reached.wait()
        await publish("m-2", pod)
        assert await received(client, 2) == ["m-1", "m-2"]
        late.open()
        await first
        await hinted(pod, 2)
        await silent(client)
        await publish("m-3", other)
        assert await received(client, 1) == ["m-3"]


@pytest.mark.gen_test
async def test_8_a_hint_that_was_overtaken_brings_nothing_that_was_settled_before_the_connect(
    redis_server: RedisServer,
) -> None:
    """Another device had read it from the inbox and confirmed it."""
    async with two_pods(redis_server) as (pod, other):
        gone = await live(pod)
        late = hold(other.app.stores.commands, "feed_append")
        publishing = asyncio.ensure_future(publish("m-1", other))
        await late.reached.wait()
        await gone.close()
        first = await pod.connect("alice")
        assert await received(first, 1) == ["m-1"]
        await silent(first)
        await settled(pod)
        second = await pod.connect("alice")
        assert [frame["type"] for frame in await second.until("live")] == ["welcome", "live"]
        late.open()
        await publishing
        await hinted(pod, 1)
        await silent(second)


@pytest.mark.gen_test
async def test_8_a_hint_that_was_overtaken_brings_nothing_again_that_was_forgotten(
    redis_server: RedisServer,
) -> None:
    """The same connection got it from the inbox, because a repeat of the publish was quicker."""
    async with two_pods(redis_server) as (pod, other):
        client = await live(pod)
        late = hold(other.app.stores.commands, "feed_append")
        publishing = asyncio.ensure_future(publish("m-1", other))
        await late.reached.wait()
        await publish("m-1", pod)
        assert await received(client, 1) == ["m-1"]
        await silent(client)
        await settled(pod)
        (connection,) = pod.app.manager.of("alice")
        await eventually(lambda: connection.state is State.LIVE and connection.ledger.sent == {})
        late.open()
        await publishing
        await hinted(pod, 2)
        await silent(client)


# -- 9


@pytest.mark.gen_test
async def test_9_what_settles_while_a_page_with_it_is_on_its_way_is_not_pushed_again(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (pod, other):
        client = await live(pod, pongs=False)
        await publish("m-1", other)
        assert await received(client, 1) == ["m-1"]
        (connection,) = pod.app.manager.of("alice")
        await silent(client)
        read = hold(pod.app.stores.commands, "inbox_read", answers=True)
        await publish("m-2", other, LARGE)
        await read.reached.wait()
        await client.send_frame(0xA, client.pings[-1])
        await eventually(lambda: not connection.ledger.unconfirmed and not pod.app.settler.waiting)
        assert await other.inbox("alice") == ["m-2"]
        read.open()
        assert await received(client, 1) == ["m-2"]
        await silent(client)
        await client.send_frame(0xA, client.pings[-1])
        await eventually(lambda: connection.state is State.LIVE and connection.ledger.sent == {})
        await silent(client)


# -- 10


@pytest.mark.gen_test
async def test_10_a_publish_that_is_repeated_after_the_message_was_settled_appends_nothing(
    redis_server: RedisServer,
) -> None:
    """Its first answer was lost, or it was only slow; `msg:ID` is still there and tells nothing."""
    async with two_pods(redis_server) as (pod, other):
        client = await live(pod)
        await publish("m-1", other)
        assert await received(client, 1) == ["m-1"]
        await silent(client)  # answers the ping behind the message
        await settled(pod)
        assert await pod.inbox("alice") == []
        assert (await publish("m-1", other)).duplicate
        assert (await pod.app.stores.inbox.read("alice", 10)).seq == 1
        assert await pod.inbox("alice") == []
        # Nobody was hinted at: the next hint is the second.
        await publish("m-2", other)
        assert await received(client, 1) == ["m-2"]
        await hinted(pod, 2)
        await silent(client)


# -- 11


@pytest.mark.gen_test
async def test_11_a_message_leaves_the_inbox_after_its_confirm_and_not_on_its_push(
    redis_server: RedisServer,
) -> None:
    """The connection breaks before the client has read."""
    async with running_pod(configured(redis_server)) as pod:
        removal = hold(pod.app.stores.commands, "inbox_remove")
        client = await live(pod, pongs=False)
        await publish("m-1", pod)
        assert await received(client, 1) == ["m-1"]
        await barrier(pod)
        assert removal.count == 0
        client.vanish()
        await eventually(lambda: not pod.app.manager.has("alice"))
        removal.open()
        assert await pod.inbox("alice") == ["m-1"]
        back = await pod.connect("alice")
        assert await received(back, 1) == ["m-1"]


# -- 12


@pytest.mark.gen_test
async def test_12_a_message_leaves_the_inbox_after_its_exposure_was_accepted(
    redis_server: RedisServer,
) -> None:
    """Killed in between, it comes again with the next connection, and is exposed then."""
    async with running_pod(configured(redis_server)) as pod:
        exposure = hold(pod.app.stores.commands, "exposure_add")
        client = await live(pod)
        await publish("m-1", pod)
        assert await received(client, 1) == ["m-1"]
        await silent(client)
        await exposure.reached.wait()
        await barrier(pod)
        assert (await pod.inbox("alice"), exposed(redis_server)) == (["m-1"], [])
        await pod.kill()
        exposure.drop()
    async with running_pod(configured(redis_server)) as pod:
        client = await pod.connect("alice")
        assert await received(client, 1) == ["m-1"]
        await client.until("live")
        await silent(client)
        await eventually(lambda: exposed(redis_server) == ["m-1"])


@pytest.mark.gen_test
async def test_12_what_was_removed_had_been_exposed(redis_server: RedisServer) -> None:
    async with running_pod(configured(redis_server)) as pod:
        removal = hold(pod.app.stores.commands, "inbox_remove")
        client = await live(pod)
        await publish("m-1", pod)
        assert await received(client, 1) == ["m-1"]
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
    async with two_pods(redis_server) as (pod, other):
        removal = hold(pod.app.stores.commands, "inbox_remove")
        client = await live(pod)
        await publish("m-1", other)
        assert await received(client, 1) == ["m-1"]
        await silent(client)
        await removal.reached.wait()
        early = await other.connect("alice")
        assert [frame["type"] for frame in await early.until("live")] == ["welcome", "message", "live"]
        removal.open()
        await settled(pod)
        late = await other.connect("alice")
        assert [frame["type"] for frame in await late.until("live")] == ["welcome", "live"]
        await silent(early)


@pytest.mark.gen_test
async def test_a_message_reaches_every_device_that_is_connected_on_any_pod_once(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (pod, other):
        # All have it before any confirms: no device is later than another's confirm.
        devices = [await live(where, pongs=False) for where in (pod, pod, other)]
        assert (await publish("m-1", pod)).online == 1
        for device in devices:
            assert await received(device, 1) == ["m-1"]
            await silent(device)
        for device in devices:
            await device.send_frame(0xA, device.pings[-1])
        await eventually(lambda: len(exposed(redis_server)) >= 2 and not pod.app.settler.waiting)
        await eventually(lambda: asyncio.ensure_future(_is_empty(pod)))
        for device in devices:
            await silent(device)


async def _is_empty(pod: Pod) -> bool:
    return await pod.inbox("alice") == []
