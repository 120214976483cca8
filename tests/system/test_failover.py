"""A pod on a service that sentinels watch over, when its Redis is replaced."""

from __future__ import annotations

import asyncio

import pytest

from pushserver.core.errors import StoreError
from tests.engines.redis_sentinel import RedisSentinels
from tests.pod import Pod, eventually, running_pod, settings

FAILOVER_S = 20
"""A generous bound: sentinels need three to five seconds."""


@pytest.mark.gen_test(timeout=60)
async def test_a_client_stays_connected_through_a_failover_and_gets_what_is_sent_after_it(
    redis_sentinels: RedisSentinels,
) -> None:
    configured = settings(redis_sentinels.url, inbox={"rescan_s": 0.5})
    async with running_pod(configured) as pod:
        alice = await pod.connect("alice")
        await alice.until("live")
        received: list[str] = []
        listening = asyncio.ensure_future(alice.serve(lambda frame: received.append(frame["content"])))
        await pod.send("alice", "before")
        await eventually(lambda: is_settled(pod))
        old = redis_sentinels.master()
        old.kill()
        await eventually(lambda: redis_sentinels.master() is not old, FAILOVER_S)
        await eventually(lambda: is_sent(pod), FAILOVER_S)
        await eventually(lambda: received == ["before", "after"])
        await eventually(lambda: is_settled(pod))
        assert set(await pod.app.stores.presence.pods_of("alice")) == {"pod-1"}
        # Who comes now is served by the new master, too.
        bob = await pod.connect("bob")
        await bob.until("live")
        assert pod.app.not_ready() == ""
        assert not listening.done()
        listening.cancel()
        await asyncio.wait([listening])


async def is_sent(pod: Pod) -> bool:
    try:
        await pod.send("alice", "after", message_id="after")
    except StoreError:
        return False
    return True


async def is_settled(pod: Pod) -> bool:
    return await pod.inbox("alice") == []
