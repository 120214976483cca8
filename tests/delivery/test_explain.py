"""Where a message is, and why: asked on one pod of users on another, and by a process that is no pod."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pushserver.backend import open_backend
from pushserver.core.categories import Categories
from pushserver.core.publication import Publication
from pushserver.delivery import questions as questions_module
from pushserver.stores.keys import GONE_MAX, SEEN_MAX
from tests.client import Client
from tests.engines.redis_server import RedisServer
from tests.gate import hold
from tests.pod import Pod, eventually, running_pod, settings
from tests.texts import to_users

CAP = 3


@asynccontextmanager
async def two_pods(redis_server: RedisServer) -> AsyncIterator[tuple[Pod, Pod]]:
    """The pod that alice is on, and the one that is asked."""
    common: dict[str, Any] = {"inbox": {"rescan_s": 0, "cap": CAP}, "delivery": {"log_confirm_s": 0}}
    async with (
        running_pod(settings(redis_server.url, pod={"name": "pod-1"}, **common)) as hers,
        running_pod(settings(redis_server.url, pod={"name": "pod-2"}, **common)) as asked,
    ):
        yield hers, asked


async def live(pod: Pod, *, pongs: bool = True) -> Client:
    client = await pod.connect("alice")
    client.pongs = pongs
    await client.until("live")
    return client


async def way(pod: Pod, message_id: str, user: str = "alice") -> Any:
    told = await pod.app.explainer.explain(message_id, user)
    assert told is not None
    return told["user"]


async def state(pod: Pod, message_id: str, user: str = "alice") -> str:
    return str((await way(pod, message_id, user))["state"])


def to(categories: Categories, message_id: str = "c-1") -> Publication:
    return Publication(message_id, '"hi"', 60, categories=categories)


# -- the message


@pytest.mark.gen_test
async def test_a_message_is_told_with_its_record(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (_, asked):
        await asked.app.publisher.publish(to_users(["alice", "bob"], 1, "m-1", 60))
        told: Any = await asked.app.explainer.explain("m-1")
        assert (told["id"], told["kind"], told["state"], told["users"]) == ("m-1", "users", "accepted", 2)
        assert told["queued_at"] <= told["accepted_at"] + 1000
        assert told["expires_at"] - told["queued_at"] in range(59_900, 60_100)
        assert (told["recalled_at"], told["erased"], told["log"]) == (None, 0, None)
        await asked.app.publisher.recall("m-1")
        told = await asked.app.explainer.explain("m-1")
        assert (told["state"], told["recalled_at"] >= told["queued_at"]) == ("recalled", True)
        assert await asked.app.explainer.explain("none") is None
        assert await asked.app.explainer.explain("none", "alice") is None


@pytest.mark.gen_test
async def test_other_states_of_a_message(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (_, asked):
        app = asked.app

        async def told(message_id: str) -> Any:
            return (await app.explainer.explain(message_id) or {})["state"]

        await app.stores.contents.publish(to_users(["alice"], 1, "half", 60), 600)
        assert await told("half") == "unfinished"
        await app.stores.contents.publish(to({"vip": ("3",)}, "half-log"), 600)
        assert await told("half-log") == "unfinished"
        await app.publisher.publish(Publication("live", "1", 60, users=("alice",), offline=False))
        assert await told("live") == "sent"
        await app.stores.contents.publish(Publication("held", "1", 60, users=("a",), offline=False), 600)
        assert await told("held") == "unfinished"
        await app.stores.commands.call("SET", "ps:msg:foreign", "x")
        assert await told("foreign") == "unrecorded"
        await app.stores.commands.call("DEL", "ps:msg:half")
        assert await told("half") == "expired"


# -- on its way to a user


@pytest.mark.gen_test
async def test_a_message_is_followed_from_the_inbox_to_its_settling(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (hers, asked):
        await asked.send("alice", 0, "m-0")
        await asked.send("alice", 1, "m-1")
        told = await way(asked, "m-1")
        assert (told["state"], told["online"], told["connections"]) == ("waiting", False, [])
        assert "behind 1 other;" in told["why"]
        exposing = hold(hers.app.stores.commands, "exposure_add")
        client = await hers.connect("alice")
        client.pongs = False
        await client.until("live")
        told = await way(asked, "m-1")
        (line,) = told["connections"]
        assert (told["state"], line["pod"], line["confirmed"]) == ("sent", "pod-1", False)
        assert line["pushed_at"] is not None
        assert line["connection"] in told["why"]
        second = await live(hers)
        await exposing.reached.wait()
        assert await state(asked, "m-1") == "confirmed"
        exposing.open()
        await eventually(lambda: hers.app.settler.waiting == 0)
        # The first device has not confirmed it.
        assert await state(asked, "m-1") == "settled"
        assert await state(asked, "m-1", "bob") == "absent", "not for him"
        second.vanish()


@pytest.mark.gen_test
async def test_a_message_that_waits_beside_a_connection_that_has_no_room_says_so(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (hers, asked):
        reading = hold(hers.app.stores.commands, "content_read")
        await asked.send("alice", 1, "m-1")
        await hers.connect("alice")
        await reading.reached.wait()
        told = await way(asked, "m-1")
        assert (told["state"], told["connections"][0]["pushed_at"]) == ("waiting", None)
        assert "not sent yet to any of 1 connection" in told["why"]
        reading.open()


@pytest.mark.gen_test
async def test_what_left_the_inbox_unseen_is_told_with_its_time(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (hers, asked):
        app = asked.app
        for number in range(CAP + 1):
            await asked.send("alice", 1, f"m-{number}")
        told = await way(asked, "m-0")
        assert (told["state"], told["at"] > 0) == ("evicted", True)
        assert str(CAP) in told["why"]
        await app.stores.commands.call("DEL", "ps:msg:m-1")
        await app.publisher.recall("m-2")
        # Before the user comes, and after.
        for at_known in (False, True):
            told = await way(asked, "m-1")
            assert (told["state"], told["at"] is not None) == ("expired", at_known)
            assert await state(asked, "m-2") == "recalled"
            (await live(hers)).vanish()
            await eventually(lambda: not hers.app.manager.of("alice"))


@pytest.mark.gen_test
async def test_what_was_parked_is_told_so_until_it_is_put_back(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (_, asked):
        await asked.send("alice", 1, "m-1")
        for _ in range(3):
            await asked.app.stores.inbox.blame("alice", "m-1")
        told = await way(asked, "m-1")
        assert (told["state"], told["at"] is not None) == ("parked", True)
        await asked.app.users.put_back("alice", "m-1")
        assert await state(asked, "m-1") == "waiting"
        await asked.app.stores.inbox.settle("alice", ["m-1"])
        assert await state(asked, "m-1") == "settled"


@pytest.mark.gen_test
async def test_where_more_have_gone_than_are_noted_nothing_is_said_to_be_settled(
    redis_server: RedisServer,
) -> None:
    """What went first is in no list, just as what was settled."""
    async with two_pods(redis_server) as (hers, asked):
        for number in range(GONE_MAX // 250 + 2):
            ids = [f"m-{number}-{one}" for one in range(250)]
            await asyncio.gather(*(asked.send("alice", 1, one) for one in ids))
        assert await state(asked, "m-4-0") == "evicted"
        told = await way(asked, "m-0-0")
        assert told["state"] == "unknown"
        assert "noted no more" in told["why"]
        # One that a connection has confirmed is settled whatever is noted.
        exposing = hold(hers.app.stores.commands, "exposure_add")
        await live(hers)
        await exposing.reached.wait()
        ids = await asked.app.stores.inbox.ids("alice")
        await asked.app.stores.inbox.settle("alice", ids[:1])
        assert await state(asked, ids[0]) == "settled"
        exposing.open()


@pytest.mark.gen_test
async def test_what_was_never_in_the_inbox_is_told_so_for_as_long_as_that_is_remembered(
    redis_server: RedisServer,
) -> None:
    async with two_pods(redis_server) as (_, asked):
        app = asked.app
        await app.stores.contents.publish(to_users(["alice"], 1, "half", 60), 600)
        told = await way(asked, "half")
        assert told["state"] == "absent"
        assert "not in the inbox yet" in told["why"]
        await app.publisher.publish(to_users(["alice"], 1, "half", 60))
        assert await state(asked, "half") == "waiting"
        assert "it is not for this user" in (await way(asked, "half", "bob"))["why"]
        # An id that is older than what is remembered, and a user of whom no more can be.
        await app.stores.commands.call("HINCRBY", "ps:publish:{ps:msg:half}", "queued_at", -600_000)
        assert await state(asked, "half", "bob") == "unknown"
        await app.stores.commands.call("HINCRBY", "ps:publish:{ps:msg:half}", "queued_at", 600_000)
        many = [part for number in range(SEEN_MAX) for part in (1, f"seen-{number}")]
        await app.stores.commands.call("ZADD", "ps:seen:{bob}", *many)
        assert await state(asked, "half", "bob") == "unknown"


# -- from the log


@pytest.mark.gen_test
async def test_a_message_to_a_category_is_told_by_the_cursor(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (hers, asked):
        app = asked.app
        assert (await app.explainer.explain("c-1")) is None
        (await live(hers)).vanish()
        await eventually(lambda: not hers.app.manager.of("alice"))
        await eventually(lambda: not hers.app.cursors.waiting)
        await app.publisher.publish(to({}))
        told: Any = await app.explainer.explain("c-1", "alice")
        assert (told["kind"], told["state"], told["users"]) == ("everyone", "accepted", None)
        assert (told["log"]["to"], told["user"]["state"]) == ({}, "ahead")
        # As if the log were on a node whose clock is behind.
        await app.stores.commands.call("HINCRBY", "ps:publish:{ps:msg:c-1}", "queued_at", 300_000)
        assert await state(asked, "c-1") == "ahead"
        assert await state(asked, "c-1", "bob") == "unknown", "never connected"
        client = await live(hers, pongs=False)
        assert await state(asked, "c-1") == "sent"
        client.vanish()
        await eventually(lambda: not hers.app.manager.of("alice"))
        client = await live(hers)
        await client.send({"type": "ping"})
        await client.until("pong")
        await eventually(lambda: not hers.app.manager.of("alice")[0].ledger.sent)
        client.vanish()
        await eventually(lambda: not hers.app.manager.of("alice") and not hers.app.cursors.waiting)
        assert await state(asked, "c-1") == "passed"
        await app.publisher.publish(to({}, "c-3"))
        await app.publisher.recall("c-3")
        assert await state(asked, "c-3") == "recalled"


@pytest.mark.gen_test
async def test_a_message_for_the_live_only_is_on_a_connection_or_nowhere(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (hers, asked):
        client = await live(hers, pongs=False)
        await asked.app.publisher.publish(Publication("l-1", "1", 60, users=("alice",), offline=False))
        await client.messages(1)
        assert await state(asked, "l-1") == "sent"
        assert await state(asked, "l-1", "bob") == "unknown"


# -- who is asked


@pytest.mark.gen_test
async def test_a_process_that_is_no_pod_asks_the_same(redis_server: RedisServer) -> None:
    async with two_pods(redis_server) as (hers, _), open_backend(settings(redis_server.url)) as backend:
        client = await live(hers, pongs=False)
        await hers.send("alice", 1, "m-1")
        await client.messages(1)
        told: Any = await backend.explainer.explain("m-1", "alice")
        assert (told["user"]["state"], told["user"]["connections"][0]["pod"]) == ("sent", "pod-1")


@pytest.mark.gen_test
async def test_a_pod_that_does_not_answer_is_told_as_such(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions_module, "WAIT_S", 0.1)
    async with two_pods(redis_server) as (hers, asked):
        await live(hers)
        await asked.send("bob", 1, "m-1")
        lost = hold(hers.app.stores.commands, "reply_put")
        told = await way(asked, "m-1")
        assert told["connections"] == [{"pod": "pod-1", "connection": None}]
        lost.drop()
