"""What is published after a change of categories was answered goes by the new ones, wherever the user is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pushserver.core.categories import Categories
from pushserver.delivery.feed import READ_AT_ONCE
from pushserver.stores.feed_entry import Kick
from tests.client import Client
from tests.delivery.log_rig import to_categories
from tests.engines.redis_server import RedisServer
from tests.gate import Gate, hold
from tests.pod import Pod, eventually, running_pod, settings

VIP_1, VIP_2 = {"vip": ("1",)}, {"vip": ("2",)}


@asynccontextmanager
async def pod_and_alice(redis_server: RedisServer) -> AsyncIterator[tuple[Pod, Client]]:
    """A pod without a rescan, and alice on it, who is a VIP 1."""
    async with running_pod(settings(redis_server.url, inbox={"rescan_s": 0})) as pod:
        await pod.app.users.set_categories("alice", VIP_1)
        client = await pod.connect("alice")
        await client.until("live")
        yield pod, client


async def tell(pod: Pod, message_id: str, target: Categories, **options: Any) -> None:
    await pod.app.publisher.publish(to_categories(message_id, target, **options))


async def got(client: Client, *ids: str) -> None:
    """Fail unless just these come, in this order, before the answer to a ping that is asked for now."""
    await client.send({"type": "ping"})
    frames = await client.until("pong")
    assert [frame["id"] for frame in frames if frame["type"] == "message"] == list(ids)


async def comes(client: Client, message_id: str) -> None:
    """Fail unless this is what comes next."""
    assert [frame["id"] for frame in await client.messages(1)] == [message_id]


def hold_move(pod: Pod) -> Gate:
    """Hold the reading of new categories."""
    return hold(pod.app.stores.commands, "HGETALL", only=lambda arguments: "categories" in str(arguments[0]))


async def offered(pod: Pod) -> None:
    """Wait until the pod has dealt with all that the log holds."""
    last = (await pod.app.stores.log.range()).last
    await eventually(lambda: pod.app.tail.offered >= last)


@pytest.mark.gen_test
async def test_what_comes_while_the_new_categories_are_read_goes_by_them(redis_server: RedisServer) -> None:
    async with pod_and_alice(redis_server) as (pod, client):
        move = hold_move(pod)
        await pod.app.users.set_categories("alice", VIP_2)
        await move.reached.wait()
        await tell(pod, "m-former", VIP_1)
        await tell(pod, "m-new", VIP_2)
        await offered(pod)
        await got(client)
        move.open()
        await comes(client, "m-new")
        await got(client)


@pytest.mark.gen_test
async def test_a_log_that_is_read_before_the_feed_waits_for_it(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pod_and_alice(redis_server) as (pod, client):
        feed, open_again, held = pod.app.stores.feeds, asyncio.Event(), asyncio.Event()
        read = feed.read

        async def held_read(after: int, count: int) -> Any:
            answer = await read(after, count)
            if answer:
                held.set()
                await open_again.wait()
            return answer

        monkeypatch.setattr(feed, "read", held_read)
        # The read that is under way is not held yet.
        await pod.app.feeds.tell([pod.app.pod], Kick("nobody"))
        await eventually(lambda: pod.app.metrics.feed_entries._value.get() >= 1)
        await pod.app.users.set_categories("alice", VIP_2)
        await held.wait()
        asked = hold(pod.app.stores.commands, "feed_last", answers=True)
        await tell(pod, "m-new", VIP_2)
        await asked.reached.wait()
        asked.open()
        await got(client)
        open_again.set()
        await comes(client, "m-new")


@pytest.mark.gen_test
async def test_what_is_for_the_live_only_waits_for_who_is_being_moved(redis_server: RedisServer) -> None:
    async with pod_and_alice(redis_server) as (pod, client):
        move = hold_move(pod)
        await pod.app.users.set_categories("alice", VIP_2)
        await move.reached.wait()
        await tell(pod, "m-new", VIP_2, offline=False)
        move.open()
        await comes(client, "m-new")


@pytest.mark.gen_test
async def test_a_change_that_takes_long_holds_up_what_is_for_the_live_only_once(
    redis_server: RedisServer,
) -> None:
    """Its node may be away, and hints to everybody stand behind in the same feed."""
    async with pod_and_alice(redis_server) as (pod, client):
        bob = await pod.connect("bob")
        await bob.until("live")
        move = hold_move(pod)
        await pod.app.users.set_categories("alice", VIP_2)
        await move.reached.wait()
        # More than one read brings: of one read, hints come first.
        for number in range(2 * READ_AT_ONCE):
            await tell(pod, f"m-{number}", {"vip": ("9",)}, offline=False)
        await pod.send("bob", "hello", "m-bob")
        # If each of them waited, this would take 50 s.
        await comes(bob, "m-bob")
        move.open()
        await got(client)


@pytest.mark.gen_test
async def test_who_connects_meanwhile_catches_up_by_the_new_categories(redis_server: RedisServer) -> None:
    async with pod_and_alice(redis_server) as (pod, alice):
        await alice.close()
        await eventually(lambda: not pod.app.manager.has("alice") and not pod.app.presence.unflushed)
        write = hold(pod.app.stores.commands, "presence_set")
        client = await pod.connect("alice")
        await write.reached.wait()
        # Nobody is there to be told.
        assert await pod.app.users.set_categories("alice", VIP_2) == []
        await tell(pod, "m-new", VIP_2)
        await offered(pod)
        write.open()
        frames = await client.until("live")
        assert [frame["id"] for frame in frames if frame["type"] == "message"] == ["m-new"]


@pytest.mark.gen_test
async def test_a_refresh_that_read_the_former_categories_does_not_bring_them_back(
    redis_server: RedisServer,
) -> None:
    async with pod_and_alice(redis_server) as (pod, client):
        once = [True]
        commands = pod.app.stores.commands
        read = hold(commands, "HGETALL", answers=True, only=lambda _: bool(once and once.pop()))
        await client.send({"type": "refresh", "token": pod.token("alice")})
        await read.reached.wait()
        await pod.app.users.set_categories("alice", VIP_2)
        await eventually(lambda: pod.app.manager.matching(VIP_2))
        read.open()
        await client.until("welcome")
        await eventually(lambda: pod.app.manager.matching(VIP_2) and not pod.app.manager.matching(VIP_1))


@pytest.mark.gen_test
async def test_changes_and_messages_in_turn_never_miss_each_other(redis_server: RedisServer) -> None:
    async with pod_and_alice(redis_server) as (pod, client):
        for number in range(30):
            target = {"vip": (str(number),)}
            await pod.app.users.set_categories("alice", target)
            await tell(pod, f"m-{number}", target, offline=number % 3 > 0)
            await comes(client, f"m-{number}")
