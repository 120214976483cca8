"""Every connection of a user that is there gets each message, also one that another is quicker to settle."""

from __future__ import annotations

import pytest

from pushserver.delivery import connection as connection_module
from tests.client import Client
from tests.delivery.rig import rig
from tests.delivery.test_feed import append, hints, take
from tests.engines.redis_server import RedisServer
from tests.gate import hold
from tests.pod import Pod, eventually, running_pod, settings

WINDOW = 4
IDS = [f"m-{number:02d}" for number in range(20)]


def small(server: RedisServer, name: str) -> object:
    return settings(server.url, pod={"name": name}, inbox={"rescan_s": 0}, delivery={"window": WINDOW})


async def live(pod: Pod) -> Client:
    client = await pod.connect("alice")
    await client.until("live")
    return client


async def settled(pod: Pod) -> bool:
    return not await pod.inbox("alice") and not pod.app.settler.waiting


async def received(client: Client) -> list[str]:
    return [frame["id"] for frame in await client.messages(len(IDS))]


@pytest.mark.gen_test
@pytest.mark.parametrize("place", ["on the same pod", "on another"])
async def test_who_is_slow_gets_what_a_quicker_one_has_settled(redis_server: RedisServer, place: str) -> None:
    """It reads nothing until all of it is settled and out of the inbox."""
    async with (
        running_pod(small(redis_server, "pod-1")) as one,  # type: ignore[arg-type]
        running_pod(small(redis_server, "pod-2")) as other,  # type: ignore[arg-type]
    ):
        quick = await live(one)
        slow = await live(one if place == "on the same pod" else other)
        for message_id in IDS:
            await one.send("alice", "hello", message_id)
        assert await received(quick) == IDS
        await quick.send({"type": "ping"})
        await quick.until("pong")
        await eventually(lambda: settled(one))
        assert await received(slow) == IDS
        late = await live(other)
        # Who comes later does not get it again.
        await late.send({"type": "ping"})
        assert [frame["type"] for frame in await late.until("pong")] == ["pong"]


@pytest.mark.gen_test
async def test_what_was_settled_and_what_waits_come_in_the_order_of_their_sequence(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        read = hold(on.app.stores.commands, "inbox_read")
        await append(on, "m-1", "m-2", "m-3", "m-4")
        # The first one's hint is lost, so the inbox is looked at.
        await take(on, hints((2, "m-2"), (3, "m-3"), (4, "m-4")))
        await read.reached.wait()
        await on.app.stores.inbox.settle("alice", ["m-2", "m-4"])
        read.open()
        await line.got("m-1", "m-2", "m-3", "m-4")
        assert (line.connection.upto, line.connection.owed) == (4, None)


@pytest.mark.gen_test
async def test_what_was_settled_before_a_connection_came_is_not_owed_to_it(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await append(on, "m-1", "m-2")
        await on.app.stores.inbox.settle("alice", ["m-1"])
        write = hold(on.app.stores.commands, "presence_set", answers=True)
        line = on.open()
        await write.reached.wait()
        # Late: both were there before its page was read.
        await take(on, hints((1, "m-1"), (2, "m-2")))
        write.open()
        await line.live()
        await line.got("m-2")
        assert line.connection.owed is None


@pytest.mark.gen_test
async def test_what_is_owed_is_bounded_and_what_is_forgotten_counted(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "OWED_MAX", 2)
    async with rig(redis_server.url) as on:
        line = await on.live()
        read = hold(on.app.stores.commands, "inbox_read")
        await append(on, "m-1", "m-2", "m-3", "m-4")
        await take(on, hints((2, "m-2"), (3, "m-3"), (4, "m-4")))
        await read.reached.wait()
        await on.app.stores.inbox.settle("alice", ["m-1", "m-2", "m-3", "m-4"])
        read.open()
        await line.got("m-3", "m-4")
        assert on.counted("overtaken_total") == 1


@pytest.mark.gen_test
async def test_a_repeat_of_a_hint_owes_nothing_that_was_sent(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        await append(on, "m-1", "m-2")
        await take(on, hints((1, "m-1")))
        await line.got("m-1")
        # Its sequence is that of the moment, and m-2 was not hinted at.
        await take(on, hints((2, "m-1")))
        await line.got("m-1", "m-2")
        await on.flushed()
        assert line.connection.owed is None
