"""Publishing without running a pod."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from pushserver import backend as backend_module
from pushserver.backend import BackendPublisher, open_backend, open_publisher
from pushserver.config import Settings
from pushserver.core.errors import (
    IdReusedError,
    InvalidFieldError,
    InvalidNameError,
    RecalledError,
    StoreUnavailableError,
)
from pushserver.core.publication import Published
from tests.engines.redis_server import RedisServer
from tests.pod import running_pod, settings


@pytest.fixture
def publisher(io_loop: IOLoop, redis_server: RedisServer) -> Iterator[BackendPublisher]:
    opened = open_publisher(redis_server.url, content={"max_ttl_s": 1000, "ttl_s": 500})
    yield io_loop.run_sync(opened.__aenter__)
    io_loop.run_sync(lambda: opened.__aexit__(None, None, None))


def ids(redis_server: RedisServer, user: str) -> list[str]:
    with redis_server.client() as redis:
        waiting: list[str] = redis.lrange(f"ps:inbox:{{{user}}}", 0, -1)
        return waiting


# -- publishing


@pytest.mark.gen_test
async def test_a_message_waits_for_its_users(redis_server: RedisServer, publisher: BackendPublisher) -> None:
    answer = await publisher.send({"text": "hello"}, users=["alice", "bob", "alice"], message_id="m-1")
    assert answer == Published("m-1", False, users=2, online=0)
    assert ids(redis_server, "alice") == ids(redis_server, "bob") == ["m-1"]
    with redis_server.client() as redis:
        assert 490 < redis.ttl("ps:msg:m-1") <= 500
        assert '"content":{"text":"hello"}' in redis.get("ps:msg:m-1")


@pytest.mark.gen_test
async def test_a_message_reaches_who_is_live_on_a_pod(redis_server: RedisServer) -> None:
    without = settings(redis_server.url, inbox={"rescan_s": 0})
    async with running_pod(without) as pod, open_publisher(redis_server.url) as publisher:
        client = await pod.connect("alice")
        await client.until("live")
        await publisher.send(1, users=["alice"], message_id="m-1")
        await publisher.send(2, everyone=True, message_id="m-2")
        await publisher.send(3, users=["alice"], message_id="m-3", offline=False)
        assert {frame["id"] for frame in await client.messages(3)} == {"m-1", "m-2", "m-3"}


@pytest.mark.gen_test
async def test_without_an_id_each_message_gets_one_of_its_own(
    redis_server: RedisServer, publisher: BackendPublisher
) -> None:
    sent = [(await publisher.send(number, users=["alice"])).id for number in range(3)]
    assert ids(redis_server, "alice") == sent
    assert len(set(sent)) == 3


@pytest.mark.gen_test
async def test_a_repeat_is_told_as_one_and_another_message_of_that_id_is_refused(
    publisher: BackendPublisher,
) -> None:
    assert not (await publisher.send(1, users=["alice"], message_id="m-1")).duplicate
    assert (await publisher.send(1, users=["alice"], message_id="m-1")).duplicate
    with pytest.raises(IdReusedError):
        await publisher.send(2, users=["alice"], message_id="m-1")


@pytest.mark.gen_test
async def test_what_was_recalled_is_published_no_more(publisher: BackendPublisher) -> None:
    await publisher.send(1, users=["alice"], message_id="m-1")
    assert await publisher.recall("m-1")
    assert not await publisher.recall("m-2")
    with pytest.raises(RecalledError):
        await publisher.send(1, users=["alice"], message_id="m-1")


# -- refused before anything is written


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "given, field",
    [
        ({}, "to"),
        ({"users": [], "categories": {}}, "to"),
        ({"users": ["alice"], "everyone": True}, "to"),
        ({"users": ["alice"], "categories": {"vip": ["3"]}}, "to"),
        ({"categories": {"vip": ["3"]}, "everyone": True}, "to"),
        ({"categories": {"vip": []}}, "categories.vip"),
        ({"categories": {"hall": ["h"], "vip": []}}, "categories.vip"),
        ({"categories": {"colour": ["red"]}}, "categories"),
        ({"users": ["alice"], "ttl_s": 0}, "ttl"),
        ({"users": ["alice"], "ttl_s": -1}, "ttl"),
        ({"users": ["alice"], "ttl_s": 1001}, "ttl"),
        ({"users": ["alice"], "content": float("nan")}, "content"),
        ({"users": ["alice"], "content": "\ud800"}, "content"),
        ({"users": ["alice"], "content": b"bytes"}, "content"),
        ({"users": ["alice"], "content": "x" * 300_000}, "content"),
    ],
)
async def test_a_field_that_is_wrong_is_named(
    redis_server: RedisServer, publisher: BackendPublisher, given: dict[str, Any], field: str
) -> None:
    """No values of a kind mean nobody: left out, that would become everyone."""
    with pytest.raises(InvalidFieldError) as refusal:
        await publisher.send(given.pop("content", 1), **given)
    assert refusal.value.field == field
    with redis_server.client() as redis:
        assert redis.dbsize() == 0


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "given",
    [
        {"users": [""]},
        {"users": ["alice", "a\nb"]},
        {"users": ["x" * 129]},
        {"users": ["alice"], "message_id": "m 1"},
        {"users": ["alice"], "message_id": "x" * 65},
    ],
)
async def test_a_name_that_is_none_is_refused(
    redis_server: RedisServer, publisher: BackendPublisher, given: dict[str, Any]
) -> None:
    with pytest.raises(InvalidNameError):
        await publisher.send(1, **given)
    with redis_server.client() as redis:
        assert redis.dbsize() == 0


@pytest.mark.gen_test
async def test_the_longest_time_to_live_is_taken(publisher: BackendPublisher) -> None:
    assert (await publisher.send(1, users=["alice"], ttl_s=1000)).users == 1


# -- the opening and the end


@pytest.mark.gen_test
async def test_a_redis_that_is_away_is_an_error_and_leaves_nothing_open() -> None:
    before = asyncio.all_tasks()
    with pytest.raises(StoreUnavailableError):
        async with open_publisher("redis://127.0.0.1:1", redis={"timeout_ms": 500}):
            pass
    assert asyncio.all_tasks() == before


@pytest.mark.gen_test
async def test_settings_of_the_pods_are_kept(redis_server: RedisServer) -> None:
    sections: dict[str, Any] = {"redis": {"prefix": "other:"}, "inbox": {"cap": 2}}
    async with open_publisher(redis_server.url, **sections) as publisher:
        for number in range(3):
            await publisher.send(number, users=["alice"], message_id=f"m-{number}")
    with redis_server.client() as redis:
        assert redis.lrange("other:inbox:{alice}", 0, -1) == ["m-1", "m-2"]
        assert not redis.keys("ps:*")


@pytest.mark.gen_test
async def test_a_backend_counts_what_was_evicted_and_keeps_to_redis_time(redis_server: RedisServer) -> None:
    async with open_backend(settings(redis_server.url, inbox={"cap": 1})) as backend:
        assert backend.evicted == 0
        publisher = BackendPublisher(backend)
        for number in range(3):
            await publisher.send(number, users=["alice"])
        assert backend.evicted == 2
        with redis_server.client() as redis:
            assert abs(backend.stores.clock.now_ms() - redis.time()[0] * 1000) < 5000


@pytest.mark.gen_test
async def test_an_error_inside_ends_it_in_order(redis_server: RedisServer) -> None:
    async def fail() -> None:
        async with open_publisher(redis_server.url) as publisher:
            await publisher.send(1, users=["alice"], message_id="m-1")
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert ids(redis_server, "alice") == ["m-1"]
    with redis_server.client() as redis:
        assert redis.info("clients")["connected_clients"] == 1


@pytest.mark.gen_test
async def test_in_development_the_embedded_engine_is_started_and_stopped_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend_module, "DATA_DIRECTORY", tmp_path)
    for number in range(2):
        async with open_backend(Settings()) as backend:
            await BackendPublisher(backend).send(number, users=["alice"], message_id=f"m-{number}")
            waiting = (await backend.stores.inbox.read("alice", 10)).ids
    assert waiting == ["m-0", "m-1"]
