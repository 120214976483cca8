"""The flow from handshake to settle, in one pod on a real engine."""

from __future__ import annotations

import json

import pytest

from tests.engines.engine import Engine
from tests.pod import Pod, eventually, running_pod, settings


@pytest.mark.gen_test
async def test_messages_that_wait_arrive_in_order_are_settled_and_exposed(engine: Engine) -> None:
    async with running_pod(settings(engine.url)) as pod:
        ids = [await pod.send("alice", {"number": number}) for number in range(300)]
        client = await pod.connect("alice")
        frames = await client.until("live")
        assert frames[0]["type"] == "welcome"
        assert [frame["id"] for frame in frames if frame["type"] == "message"] == ids
        assert frames[-1]["delivered"] == 300
        await client.send({"type": "ping"})
        assert await client.frame() == {"type": "pong"}
        # Its last pong may be on its way while all before it is settled.
        await eventually(lambda: _is_empty(pod))
        with engine.client() as redis:
            events = [json.loads(entry["data"]) for _, entry in redis.xrange("ps:exposures")]
        # Several batches are handed over at a time, in any order.
        assert sorted(event["message_id"] for event in events) == sorted(ids)
        assert await pod.app.stores.presence.pods_of("alice")
        await client.close()
        await eventually(lambda: not len(pod.app.manager))


async def _is_empty(pod: Pod) -> bool:
    return await pod.inbox("alice") == []
