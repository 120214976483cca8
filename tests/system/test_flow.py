"""The flow from handshake to settle, in one pod on a real engine."""

from __future__ import annotations

import json

import pytest

from tests.engines.redis_server import RedisServer
from tests.pod import eventually, running_pod, settings


@pytest.mark.gen_test
async def test_messages_that_wait_arrive_in_order_are_settled_and_exposed(redis_server: RedisServer) -> None:
    async with running_pod(settings(redis_server.url)) as pod:
        ids = [await pod.send("alice", {"number": number}) for number in range(300)]
        client = await pod.connect("alice")
        frames = await client.until("live")
        assert frames[0]["type"] == "welcome"
        assert [frame["id"] for frame in frames if frame["type"] == "message"] == ids
        assert frames[-1]["delivered"] == 300
        await client.send({"type": "ping"})
        assert await client.frame() == {"type": "pong"}
        await eventually(lambda: pod.app.settler.waiting == 0 and not client.pings)
        assert await pod.inbox("alice") == []
        with redis_server.client() as redis:
            events = [json.loads(entry["data"]) for _, entry in redis.xrange("ps:exposures")]
        assert [event["message_id"] for event in events] == ids
        assert await pod.app.stores.presence.pods_of("alice")
        await client.close()
        await eventually(lambda: not len(pod.app.manager))
