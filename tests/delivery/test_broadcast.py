"""Messages to categories and to everyone, across two pods, over real sockets; and those for the live only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pushserver.core.errors import IdReusedError, RecalledError, StoreUnavailableError
from pushserver.core.publication import Published
from tests.client import Client
from tests.delivery.log_rig import Target, to_categories
from tests.engines.redis_server import RedisServer
from tests.gate import hold, refuse
from tests.pod import Pod, eventually, running_pod, settings
from tests.texts import to_users


@asynccontextmanager
async def two_pods(redis_server: RedisServer, **sections: Any) -> AsyncIterator[tuple[Pod, Pod]]:
    """Two pods without a rescan."""

    def configured(name: str) -> Any:
        return settings(redis_server.url, **{"inbox": {"rescan_s": 0}, **sections, "pod": {"name": name}})

    async with running_pod(configured("pod-1")) as one, running_pod(configured("pod-2")) as other:
        yield one, other


async def give(pod: Pod, user: str, categories: Target) -> None:
    """Store a user's categories."""
    flat = [item for kind, values in categories.items() for item in (kind, json.dumps(list(values)))]
    await pod.app.stores.commands.call("HSET", f"ps:categories:{{{user}}}", *flat)


async def live(pod: Pod, user: str, **options: Any) -> Client:
    """A client that is caught up, and got nothing until then."""
    client = await pod.connect(user, **options)
    assert [frame["type"] for frame in await client.until("live")] == ["welcome", "live"]
    return client


async def tell(pod: Pod, message_id: str, target: Target | None = None, **options: Any) -> Published:
    """Publish to whom `target` means."""
    return await pod.app.publisher.publish(to_categories(message_id, target or {}, **options))


async def offered(*pods: Pod) -> None:
    """Wait until the pods have dealt with all that the log holds."""
    for pod in pods:
        last = (await pod.app.stores.log.range()).last
        await eventually(lambda: pod.app.tail.offered >= last)  # noqa: B023 - in its turn


async def got(client: Client, *ids: str) -> None:
    """Fail unless just these come, in this order, before the answer to a ping that is asked for now."""
    await client.send({"type": "ping"})
    frames = await client.until("pong")
    assert [frame["id"] for frame in frames if frame["type"] == "message"] == list(ids)


async def confirmed(pod: Pod, *clients: Client) -> None:
    """Send each connection a ping and wait until everything that it was sent is settled."""
    for connection in pod.app.manager:
        connection.ping(asyncio.get_running_loop().time())
    for client in clients:
        await got(client)
    await eventually(lambda: not any(one.ledger.sent for one in pod.app.manager))


def exposed(redis_server: RedisServer) -> list[tuple[str, str]]:
    """(message, user) of every exposure so far."""
    with redis_server.client() as redis:
        events = [json.loads(entry["data"]) for _, entry in redis.xrange("ps:exposures")]
    return [(event["message_id"], one["username"]) for event in events for one in event["exposures"]]


# -- to categories and everyone


@pytest.mark.gen_test
async def test_it_reaches_every_matching_connection_on_every_pod_once_and_nobody_else(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (one, other):
        await give(one, "alice", {"vip": ("3",), "hall": ("a",)})
        await give(one, "bob", {"vip": ("4",), "hall": ("a", "b")})
        await give(one, "carol", {"vip": ("3",), "hall": ("b",)})
        clients = {
            (user, pod.app.pod): await live(pod, user)
            for pod in (one, other)
            for user in ("alice", "bob", "carol", "nobody")
        }
        answers = [
            await tell(one, "m-1", {"vip": ("3",)}),
            await tell(other, "m-2", {"vip": ("3", "4"), "hall": ("a",)}),
            await tell(one, "m-3"),
            await tell(other, "m-4", {"hall": ("b",)}),
        ]
        assert answers == [Published(f"m-{number}") for number in range(1, 5)]
        await offered(one, other)
        for (user, _), client in clients.items():
            await got(
                client,
                *{
                    "alice": ("m-1", "m-2", "m-3"),
                    "bob": ("m-2", "m-3", "m-4"),
                    "carol": ("m-1", "m-3", "m-4"),
                    "nobody": ("m-3",),
                }[user],
            )


@pytest.mark.gen_test
async def test_who_was_away_gets_it_on_any_pod_and_what_was_settled_does_not_come_again(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (one, other):
        client = await live(one, "alice")
        await tell(other, "m-1")
        await offered(one)
        await got(client, "m-1")
        await confirmed(one, client)
        await client.close()
        await eventually(lambda: not one.app.manager and not one.app.cursors.waiting)
        await tell(one, "m-2")
        await offered(one, other)
        back = await other.connect("alice")
        assert [frame["type"] for frame in await back.until("live")] == ["welcome", "message", "live"]
        await got(back)


@pytest.mark.gen_test
async def test_a_drained_pod_leaves_its_users_where_they_are(redis_server: RedisServer) -> None:
    async with running_pod(settings(redis_server.url, pod={"name": "pod-1"})) as pod:
        client = await live(pod, "alice")
        await tell(pod, "m-1")
        await offered(pod)
        await got(client, "m-1")
        await confirmed(pod, client)
    async with running_pod(settings(redis_server.url, pod={"name": "pod-2"})) as pod:
        await live(pod, "alice")


@pytest.mark.gen_test
async def test_a_killed_pod_brings_again_what_it_did_not_write_down(redis_server: RedisServer) -> None:
    async with running_pod(settings(redis_server.url, pod={"name": "pod-1"})) as pod:
        client = await live(pod, "alice")
        await tell(pod, "m-1")
        await offered(pod)
        await got(client, "m-1")
        await confirmed(pod, client)
        await pod.kill()
    async with running_pod(settings(redis_server.url, pod={"name": "pod-2"})) as pod:
        client = await pod.connect("alice")
        assert [frame["id"] for frame in await client.messages(1)] == ["m-1"]


@pytest.mark.gen_test
async def test_pongs_alone_confirm_it_within_log_confirm_s(redis_server: RedisServer) -> None:
    async with running_pod(settings(redis_server.url, delivery={"log_confirm_s": 0.5})) as pod:
        clients = [await live(pod, f"u-{number}") for number in range(5)]
        await tell(pod, "m-1")
        served = [asyncio.ensure_future(client.serve()) for client in clients]
        await eventually(lambda: len(exposed(redis_server)) == 5)
        for client in clients:
            client.vanish()
        await asyncio.gather(*served)


# -- repeats


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.gen_test
async def test_a_repeat_completes_what_failed_and_reaches_nobody_twice(
    redis_server: RedisServer, answers: bool
) -> None:
    """The first attempt died before or after the append; its answer was lost."""
    async with two_pods(redis_server) as (one, other):
        clients = [await live(pod, "alice") for pod in (one, other)]
        refuse(one.app.stores.commands, "log_append", times=1, answers=answers)
        with pytest.raises(StoreUnavailableError):
            await tell(one, "m-1")
        assert (await tell(other, "m-1")).duplicate == answers
        assert (await tell(one, "m-1")).duplicate
        await offered(one, other)
        for client in clients:
            await got(client, "m-1")


@pytest.mark.gen_test
async def test_an_id_that_says_something_else_or_is_for_others_is_refused(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, other):
        client = await live(one, "alice")
        await tell(one, "m-1", {"vip": ("3",)})
        for target, options in (
            ({"vip": ("4",)}, {}),
            ({}, {}),
            ({"vip": ("3",)}, {"content": "else"}),
            ({"vip": ("3",)}, {"ttl_s": 7}),
            ({"vip": ("3",)}, {"offline": False}),
        ):
            with pytest.raises(IdReusedError):
                await tell(other, "m-1", target, **options)
        with pytest.raises(IdReusedError):
            await other.app.publisher.publish(to_users(["alice"], "hello", "m-1"))
        await offered(one)
        await got(client)


@pytest.mark.gen_test
async def test_concurrent_publishes_of_one_id_reach_everybody_once(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, other):
        client = await live(one, "alice")
        answers = await asyncio.gather(*(tell(pod, "m-1") for pod in (one, other) for _ in range(10)))
        assert sorted(answer.duplicate for answer in answers) == [False] + [True] * 19
        await offered(one)
        await got(client, "m-1")


# -- recall


@pytest.mark.gen_test
async def test_a_recalled_message_of_the_log_reaches_nobody_who_was_away(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (one, other):
        for user in ("alice", "bob"):
            await (await live(one, user)).close()
        await tell(one, "m-1")
        await tell(one, "m-2")
        await offered(one, other)
        before = await other.connect("alice")
        assert [frame["id"] for frame in await before.messages(2)] == ["m-1", "m-2"]
        assert await one.app.publisher.recall("m-1")
        await offered(one, other)
        for pod in (one, other):
            back = await pod.connect("bob")
            frames = await back.until("live")
            assert [frame["id"] for frame in frames if frame["type"] == "message"] == ["m-2"]
            assert frames[-1]["missed"] == {"expired": 0, "evicted": 0, "parked": 0}
            back.vanish()
        with pytest.raises(RecalledError):
            await tell(one, "m-1")


@pytest.mark.gen_test
async def test_a_recalled_message_leaves_the_inbox_and_counts_as_recalled_not_as_expired(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (one, other):
        await one.send("alice", "hello", "m-1")
        await one.send("alice", "hello", "m-2")
        assert await other.app.publisher.recall("m-1")
        assert await other.app.publisher.recall("m-1")
        assert not await other.app.publisher.recall("unknown")
        client = await one.connect("alice")
        frames = await client.until("live")
        assert [frame["id"] for frame in frames if frame["type"] == "message"] == ["m-2"]
        assert frames[-1]["missed"]["expired"] == 0
        await got(client)
        await eventually(lambda: one.app.settler.waiting == 0)
        assert await one.inbox("alice") == []
        counted = one.app.metrics.registry.get_sample_value
        assert counted("pushserver_recalled_total") == 1
        assert counted("pushserver_expired_total") == 0


@pytest.mark.parametrize("inline_bytes", [0, 1024])
@pytest.mark.gen_test
async def test_a_message_that_is_recalled_while_its_hint_is_on_its_way_is_not_pushed(
    redis_server: RedisServer, inline_bytes: int
) -> None:
    """Also when the hint brings its text along."""
    async with two_pods(redis_server, publish={"inline_bytes": inline_bytes}) as (one, other):
        client = await live(one, "alice")
        hint = hold(other.app.stores.commands, "feed_append")
        publishing = asyncio.ensure_future(other.send("alice", "hello", "m-1"))
        await hint.reached.wait()
        assert await other.app.publisher.recall("m-1")
        await offered(one)
        hint.open()
        await publishing
        await other.send("alice", "hello", "m-2")
        assert [frame["id"] for frame in await client.messages(1)] == ["m-2"]


@pytest.mark.gen_test
async def test_a_message_that_is_recalled_while_its_content_is_read_is_not_pushed(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (one, other):
        await other.send("alice", "hello", "m-1")
        content = hold(one.app.stores.commands, "content_read", answers=True)
        client = await one.connect("alice")
        await content.reached.wait()
        assert await other.app.publisher.recall("m-1")
        await offered(one)
        content.open()
        assert [frame["type"] for frame in await client.until("live")] == ["welcome", "live"]
        await eventually(lambda: _is_empty(one))


async def _is_empty(pod: Pod) -> bool:
    return await pod.inbox("alice") == []


# -- for the live only


@pytest.mark.gen_test
async def test_a_message_for_the_live_only_reaches_them_and_leaves_nothing_behind(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server, delivery={"log_confirm_s": 0.1}) as (one, other):
        await give(one, "alice", {"vip": ("3",)})
        clients = [await live(one, "alice"), await live(other, "alice"), await live(other, "bob")]
        to_some = to_users(["alice", "away"], "hello", "m-1")
        answer = await one.app.publisher.publish(_live_only(to_some))
        assert (answer.users, answer.online, answer.duplicate) == (2, 1, False)
        assert (await tell(one, "m-2", {"vip": ("3",)}, offline=False)).users is None
        await tell(one, "m-3", offline=False)
        # Once they were handed to the pods nobody gets them again.
        assert (await one.app.publisher.publish(_live_only(to_some))).duplicate
        assert (await tell(other, "m-2", {"vip": ("3",)}, offline=False)).duplicate
        for client, count in zip(clients, (3, 3, 1), strict=True):
            assert len(await client.messages(count)) == count
        for client in clients:
            await got(client)
        served = [asyncio.ensure_future(client.serve()) for client in clients]
        await eventually(lambda: len(exposed(redis_server)) == 7)
        for pod in (one, other):
            await eventually(lambda: not any(one.ledger.sent for one in pod.app.manager))  # noqa: B023 - awaited here
        with redis_server.client() as redis:
            assert redis.keys("ps:msg:*") == redis.keys("ps:inbox:*") == redis.keys("ps:log") == []
        for client in clients:
            client.vanish()
        await asyncio.gather(*served)
        late = await one.connect("away")
        assert [frame["type"] for frame in await late.until("live")] == ["welcome", "live"]


def _live_only(publication: Any) -> Any:
    return type(publication)(
        publication.id, publication.content, publication.ttl_s, publication.users, offline=False
    )


@pytest.mark.gen_test
async def test_who_is_not_live_or_has_no_room_misses_it_and_is_counted(redis_server: RedisServer) -> None:
    async with two_pods(redis_server, delivery={"window": 1}) as (one, _):
        room = await live(one, "room")
        full = await live(one, "full")
        full.pongs = False
        await one.send("full", "hello", "m-1")
        await full.messages(1)
        read = hold(one.app.stores.commands, "presence_set", answers=True)
        catching_up = await one.connect("catching up")
        await read.reached.wait()
        await tell(one, "m-2", offline=False)
        assert [frame["id"] for frame in await room.messages(1)] == ["m-2"]
        counted = one.app.metrics.registry.get_sample_value
        await eventually(lambda: counted("pushserver_live_only_total", {"result": "dropped"}) == 2)
        assert counted("pushserver_live_only_total", {"result": "pushed"}) == 1
        read.open()
        assert [frame["type"] for frame in await catching_up.until("live")] == ["welcome", "live"]
        await got(full)


@pytest.mark.gen_test
async def test_an_id_whose_message_is_forgotten_reaches_the_live_with_its_new_message(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server, delivery={"log_confirm_s": 0.1}) as (one, other):
        client = await live(other, "alice")

        async def settled() -> bool:
            await client.send({"type": "ping"})
            await client.frame()
            return not any(connection.ledger.sent for connection in other.app.manager)

        await tell(one, "m-1", ttl_s=1)
        assert len(await client.messages(1)) == 1
        await eventually(settled)
        with redis_server.client() as redis:
            await eventually(lambda: not redis.exists("ps:msg:m-1"))
            # The time for which it is known is over.
            assert redis.delete("ps:publish:{ps:msg:m-1}")
        assert not (await tell(one, "m-1", content="another", ttl_s=60)).duplicate
        assert [frame["content"] for frame in await client.messages(1)] == ["another"]
