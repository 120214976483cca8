"""What is asked about users, and done to them, on whatever pod they are: two pods on a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pushserver.backend import open_backend
from pushserver.core.close_codes import CloseCode
from pushserver.core.errors import InvalidFieldError
from pushserver.core.publication import Publication
from tests.client import Client
from tests.engines.redis_server import RedisServer
from tests.gate import hold
from tests.pod import Pod, eventually, running_pod, settings
from tests.texts import to_users


@asynccontextmanager
async def two_pods(redis_server: RedisServer, **sections: Any) -> AsyncIterator[tuple[Pod, Pod]]:
    """Two pods without a rescan."""
    sections = {"inbox": {"rescan_s": 0}, **sections}
    async with (
        running_pod(settings(redis_server.url, pod={"name": "pod-1"}, **sections)) as one,
        running_pod(settings(redis_server.url, pod={"name": "pod-2"}, **sections)) as two,
    ):
        yield one, two


async def live(pod: Pod, user: str = "alice") -> Client:
    client = await pod.connect(user)
    await client.until("live")
    return client


async def silent(client: Client) -> None:
    """Fail if anything comes before the answer to a ping that is asked for now."""
    await client.send({"type": "ping"})
    assert await client.frame() == {"type": "pong"}


def keys_of(redis_server: RedisServer, user: str) -> set[str]:
    with redis_server.client() as redis:
        return {key for key in redis.keys("*") if f"{{{user}}}" in key}


# -- describe


@pytest.mark.gen_test
async def test_a_description_tells_presence_on_all_pods_categories_and_what_waits(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (one, two):
        await live(one)
        await live(two)
        await one.app.users.set_categories("alice", {"vip": ("3",)})
        await one.send("bob", "hello")
        about: Any = await one.app.users.describe("alice")
        assert about["online"] is True
        assert set(about["pods"]) == {"pod-1", "pod-2"}
        assert [connection["state"] for connection in about["connections"]] == ["live"]
        assert about["categories"] == {"vip": ("3",)}
        about = await one.app.users.describe("bob")
        assert (about["online"], about["pods"], about["connections"]) == (False, {}, [])
        assert about["inbox"] == {"waiting": 1, "parked": 0}


@pytest.mark.gen_test
async def test_stored_categories_that_are_none_are_told_as_such(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, _):
        with redis_server.client() as redis:
            redis.hset("ps:categories:{alice}", "vip", "[1")
        about: Any = await one.app.users.describe("alice")
        assert set(about["categories"]) == {"error"}


@pytest.mark.gen_test
async def test_the_inbox_is_told_oldest_first(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, two):
        ids = [await one.send("bob", number) for number in range(5)]
        assert await two.app.users.inbox("bob") == ids
        assert await two.app.users.inbox("nobody") == []


@pytest.mark.gen_test
async def test_a_process_that_is_no_pod_asks_the_same(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, _), open_backend(settings(redis_server.url)) as backend:
        client = await live(one)
        about: Any = await backend.users.describe("alice")
        assert (set(about["pods"]), about["connections"]) == ({"pod-1"}, [])
        assert await backend.users.disconnect("alice") == ["pod-1"]
        assert (await client.closed()).code == CloseCode.KICKED


# -- categories


@pytest.mark.gen_test
async def test_a_pod_that_could_not_be_told_of_new_categories_finds_them_under_its_new_boot(
    redis_server: RedisServer,
) -> None:
    """It was cut off and reaped meanwhile, so nobody knew that the user is there."""
    async with two_pods(redis_server) as (one, two):
        await live(one)
        with redis_server.client() as redis:
            redis.delete("ps:presence:{alice}", "ps:pod:{pod-1}", "ps:pod-users:{pod-1}", "ps:feed:{pod-1}")
        assert await two.app.users.set_categories("alice", {"vip": ("3",)}) == []
        one.app.lease.check_soon()
        await eventually(lambda: one.app.manager.matching({"vip": ("3",)}))


@pytest.mark.gen_test
async def test_new_categories_move_live_connections_on_every_pod(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, two):
        first, second, other = await live(one), await live(two), await live(two, "bob")
        assert sorted(await one.app.users.set_categories("alice", {"vip": ("3",)})) == ["pod-1", "pod-2"]
        for pod in (one, two):
            await eventually(lambda: pod.app.manager.matching({"vip": ("3",)}))  # noqa: B023 - awaited here
        await one.app.publisher.publish(Publication("m-1", "1", 60, categories={"vip": ("3",)}))
        for client in (first, second):
            assert [frame["id"] for frame in await client.messages(1)] == ["m-1"]
        await silent(other)
        await two.app.users.set_categories("alice", {})
        for pod in (one, two):
            await eventually(lambda: not pod.app.manager.matching({"vip": ("3",)}))  # noqa: B023 - awaited here


@pytest.mark.gen_test
async def test_categories_that_change_while_a_user_connects_are_the_ones_that_count(
    redis_server: RedisServer,
) -> None:
    """They were read for the handshake; presence, which would have been told, is not written yet."""
    async with two_pods(redis_server) as (one, two):
        write = hold(one.app.stores.commands, "presence_set")
        client = await one.connect("alice")
        await write.reached.wait()
        assert await two.app.users.set_categories("alice", {"vip": ("3",)}) == []
        write.open()
        await client.until("live")
        await eventually(lambda: one.app.manager.matching({"vip": ("3",)}))


@pytest.mark.gen_test
async def test_categories_that_change_while_they_are_read_anew_are_read_once_more(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (one, two):
        await live(one)
        read = hold(one.app.stores.commands, "HGETALL", answers=True)
        await two.app.users.set_categories("alice", {"vip": ("1",)})
        await read.reached.wait()
        await two.app.users.set_categories("alice", {"vip": ("2",)})
        await eventually(lambda: one.app.metrics.feed_entries._value.get() >= 2)
        read.open()
        await eventually(lambda: one.app.manager.matching({"vip": ("2",)}))
        assert not one.app.manager.matching({"vip": ("1",)})
        assert read.count == 1


@pytest.mark.gen_test
async def test_a_user_who_left_meanwhile_leaves_no_categories_behind(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, two):
        client = await live(one)
        read = hold(one.app.stores.commands, "HGETALL", answers=True)
        await two.app.users.set_categories("alice", {"vip": ("1",)})
        await read.reached.wait()
        client.vanish()
        await eventually(lambda: not one.app.manager.has("alice"))
        read.open()
        await eventually(lambda: not len(one.app.tasks) or one.app.presence.unflushed == 0)
        assert one.app.manager.category_count == 0


@pytest.mark.gen_test
async def test_stored_categories_that_cannot_be_read_change_nothing(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, two):
        await one.app.users.set_categories("alice", {"vip": ("1",)})
        client = await live(one)
        read = hold(one.app.stores.commands, "HGETALL")
        await two.app.users.set_categories("alice", {"vip": ("2",)})
        await read.reached.wait()
        with redis_server.client() as redis:
            redis.hset("ps:categories:{alice}", "vip", "[1")
        read.open()
        await silent(client)
        assert one.app.manager.matching({"vip": ("1",)})


@pytest.mark.gen_test
async def test_categories_that_come_from_tokens_cannot_be_stored(redis_server: RedisServer) -> None:
    async with two_pods(redis_server, categories={"source": "claims"}) as (one, _):
        with pytest.raises(InvalidFieldError, match="categories"):
            await one.app.users.set_categories("alice", {"vip": ("1",)})


# -- disconnect, erase


@pytest.mark.gen_test
async def test_disconnect_closes_every_connection_of_the_user_on_every_pod_and_no_other(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (one, two):
        clients = [await live(one), await live(one), await live(two)]
        other = await live(one, "bob")
        assert sorted(await two.app.users.disconnect("alice")) == ["pod-1", "pod-2"]
        assert [(await client.closed()).code for client in clients] == [CloseCode.KICKED] * 3
        await silent(other)
        assert await two.app.users.disconnect("nobody") == []


@pytest.mark.gen_test
async def test_erasure_leaves_no_key_of_the_user(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, two):
        client = await live(one)
        await one.app.users.set_categories("alice", {"vip": ("1",)})
        await two.app.publisher.publish(Publication("log-1", "1", 60, categories={"vip": ("1",)}))
        await two.app.publisher.publish(to_users(["alice", "bob"], 1, "m-1"))
        assert len(await client.messages(2)) == 2
        gone = asyncio.ensure_future(client.closed())
        assert await two.app.users.erase("alice") == ["pod-1"]
        assert (await gone).code == CloseCode.KICKED
        await eventually(lambda: one.app.settler.waiting == 0 and one.app.cursors.waiting == 0)
        assert keys_of(redis_server, "alice") == set()
        assert keys_of(redis_server, "bob")


@pytest.mark.gen_test
async def test_an_erasure_waits_for_nobody_who_does_not_leave(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, _):
        await one.send("alice", 1)
        with redis_server.client() as redis:
            redis.hset("ps:presence:{alice}", "alice:pod-9", '{"boot":1,"since":1}')
        assert await one.app.users.erase("alice") == []
        assert keys_of(redis_server, "alice") == {"ps:presence:{alice}"}


# -- parked


@pytest.mark.gen_test
async def test_a_parked_message_that_is_put_back_arrives_at_once(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, two):
        await one.send("alice", "poison", "m-1")
        with redis_server.client() as redis:
            redis.lrem("ps:inbox:{alice}", 1, "m-1")
            redis.rpush("ps:parked:{alice}", "m-0", "m-1")
        client = await live(two)
        assert await one.app.users.parked("alice") == ["m-0", "m-1"]
        assert await one.app.users.put_back("alice", "m-1") is True
        assert [frame["id"] for frame in await client.messages(1)] == ["m-1"]
        assert await one.app.users.parked("alice") == ["m-0"]
        assert await one.app.users.put_back("alice", "m-1") is False


# -- pods


@pytest.mark.gen_test
async def test_every_pod_is_listed_and_the_dead_are_told_from_the_living(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, two):
        with redis_server.client() as redis:
            redis.zadd("ps:pods", {"pod-0": 1, "No Name": 2, "pod-9": 3})
            redis.hset("ps:pod:{pod-0}", mapping={"boot": 1, "expires": 1, "host": "gone", "version": "0"})
        pods: list[dict[str, Any]] = await one.app.users.pods()
        assert [pod["pod"] for pod in pods] == ["pod-0", "pod-1", "pod-2", "pod-9"]
        assert [pod["alive"] for pod in pods] == [False, True, True, False]
        assert pods[0]["host"] == "gone"
        assert pods[1]["boot"] == one.app.lease.boot
        assert pods[2]["expires"] > two.app.stores.clock.now_ms()
