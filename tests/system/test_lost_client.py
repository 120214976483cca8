"""A client lost while the chain of its handshake runs leaves nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from tests.engines.engine import Engine
from tests.engines.proxy import RedisProxy
from tests.pod import eventually
from tests.pod_process import PodProcess
from tests.system.stage import stage

pytestmark = pytest.mark.system


async def ask(pod: PodProcess) -> asyncio.StreamWriter:
    """Send alice's handshake, and wait for no answer."""
    _, writer = await asyncio.open_connection("127.0.0.1", pod.port)
    lines = [
        "GET /ws HTTP/1.1",
        f"Host: 127.0.0.1:{pod.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Authorization: Bearer {pod.token('alice')}",
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    return writer


def close(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def lost(pod: PodProcess, count: int) -> bool:
    return await pod.metric('pushserver_handshakes_total{result="lost"}') == count


@pytest.mark.gen_test(timeout=60)
async def test_a_client_lost_during_the_chain_is_registered_nowhere(engine: Engine) -> None:
    """Redis is held while its categories are read: meanwhile the client closes, or is reset."""
    waits, limits = {"connect_wait_ms": 30_000}, {"handshake_timeout_s": 30}
    async with (
        RedisProxy(*engine.ports) as proxy,
        stage(engine, redis=waits, limits=limits) as on,
    ):
        pod = await on.pods.start("pod-1", redis_url=proxy.url)
        for count, leave in enumerate((close, reset), start=1):
            step = proxy.hold("HGETALL")
            writer = await ask(pod)
            await step.reached.wait()
            leave(writer)
            # Noticed while Redis is still silent; and what it says later changes nothing.
            await eventually(lambda: lost(pod, count))  # noqa: B023 - awaited in its turn
            step.open()
            assert await pod.metric('pushserver_handshakes_total{result="101"}') == 0
            await eventually(lambda: on.indexed("pod-1") == set())
            stats = await pod.stats()
            assert (stats["connections"], stats["users"]) == (0, 0)
            assert on.everyone() == {}
