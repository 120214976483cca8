"""Who comes and goes leaves nothing for the garbage collector, which is told to leave connections alone."""

from __future__ import annotations

import asyncio

import pytest

from tests.client import Refused
from tests.core.client_frames import TEXT
from tests.core.client_frames import client as frame
from tests.engines.redis_server import RedisServer
from tests.garbage import circles
from tests.pod import Pod, eventually, running_pod, settings

SOME = 20
BAD_MASK, BAD_TEXT, TOO_BIG = b"\x81\x01x", frame(TEXT, b"\xff"), b"\x81\xff" + b"\x7f" * 12
NO_JSON = frame(TEXT, b"no json")
LIMITS = {"connections_per_ip": 0, "handshakes_per_s": 0}


async def come_and_go(pod: Pod) -> None:
    """Each gets a message, then half of them say goodbye and half are lost."""
    clients = [await pod.connect(f"user-{number}") for number in range(SOME)]
    for number, client in enumerate(clients):
        await client.until("live")
        await pod.send(f"user-{number}", "x")
        await client.messages(1)
        await client.send({"type": "ping"})
        await client.until("pong")
    await eventually(lambda: pod.app.settler.waiting == 0)
    for number, client in enumerate(clients):
        if number % 2:
            await client.close()
        else:
            client.vanish()
    await eventually(lambda: not len(pod.app.manager))


async def break_the_protocol(pod: Pod) -> None:
    """Each in another way; then they are lost."""
    for number in range(SOME):
        client = await pod.connect(f"user-{number}")
        await client.until("live")
        await client.send_bytes((BAD_MASK, BAD_TEXT, TOO_BIG, NO_JSON * 11)[number % 4])
        await client.closed()
        client.vanish()
    await eventually(lambda: not len(pod.app.manager))


async def come_in_vain(pod: Pod, redis: RedisServer) -> None:
    """Redis hangs while they come, and is killed."""

    async def come(user: str) -> bool:
        try:
            client = await pod.connect(user)
        except Refused:
            return False
        client.vanish()
        return True

    redis.freeze()
    coming = [asyncio.create_task(come(f"late-{number}")) for number in range(SOME)]
    await eventually(lambda: len(pod.server._public.arrivals) == SOME)
    redis.kill()
    await asyncio.gather(*coming)
    redis.start()
    await eventually(lambda: not len(pod.app.manager))
    await eventually(lambda: not pod.app.stores.commands.away)


@pytest.mark.gen_test(timeout=60)
async def test_who_comes_and_goes_needs_no_collector(redis_server: RedisServer) -> None:
    async with running_pod(settings(redis_server.url, limits=LIMITS)) as pod:
        await come_and_go(pod)
        with circles() as found:
            await come_and_go(pod)
            await eventually(lambda: pod.app.stores.commands.waiting == 0)
        # Where one more link is opened meanwhile, redis-py leaves an emptied frame in a circle.
        del found["Lane._open"]
        assert not found


@pytest.mark.gen_test(timeout=60)
async def test_nor_does_who_breaks_the_protocol(redis_server: RedisServer) -> None:
    async with running_pod(settings(redis_server.url, limits=LIMITS)) as pod:
        await break_the_protocol(pod)
        with circles() as found:
            await break_the_protocol(pod)
            await eventually(lambda: pod.app.stores.commands.waiting == 0)
        del found["Lane._open"]
        assert not found


@pytest.mark.gen_test(timeout=60)
async def test_nor_does_who_comes_while_redis_is_killed(redis_server: RedisServer) -> None:
    async with running_pod(settings(redis_server.url, limits=LIMITS)) as pod:
        await come_and_go(pod)
        with circles() as found:
            await come_in_vain(pod, redis_server)
        # An emptied frame that hangs from a circle of redis-py's, one for each connect that failed.
        del found["Lane._open"]
        assert not found
