"""Google's emulator as the sink: each delivery is an exposure in a subscription, outages included."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.engines.engine import Engine
from tests.engines.pubsub_emulator import PubSubEmulator
from tests.engines.tcp_proxy import TcpProxy
from tests.exposure.subscription import Subscription
from tests.pod import eventually
from tests.system.stage import Stage, meanwhile, stage

pytestmark = pytest.mark.system

AWAY_S = float(os.environ.get("TEST_PUBSUB_AWAY_S", "2"))
"""How long Pub/Sub is away. Long enough for three of the pod's tries, each with its back-off (0.5, 1 s)."""

USERS = ("alice", "bob", "carol")


class Topic:
    """A topic, and everything that its subscription has received."""

    def __init__(self) -> None:
        self.name = f"projects/dev/topics/system-{uuid.uuid4().hex}"
        self.data: list[bytes] = []

    @asynccontextmanager
    async def received(self, emulator: PubSubEmulator) -> AsyncIterator[None]:
        """Collect what arrives; what was not acknowledged when this ends is lost with the emulator."""
        async with Subscription(emulator, self.name) as subscription, meanwhile(self._collect(subscription)):
            yield

    async def _collect(self, subscription: Subscription) -> None:
        while True:
            self.data += [arrived.data for arrived in await subscription.receive(1)]

    def exposures(self) -> list[tuple[str, str, str]]:
        """(message, user, connection) of each exposure received."""
        return [
            (event["message_id"], shown["username"], shown["connection"])
            for event in map(json.loads, self.data)
            for shown in event["exposures"]
        ]

    def shown(self) -> set[tuple[str, str]]:
        """(message, connection) of the exposures."""
        return {(message_id, connection) for message_id, _, connection in self.exposures()}

    def pairs(self) -> set[tuple[str, str]]:
        """(message, user) of the exposures."""
        return {(message_id, user) for message_id, user, _ in self.exposures()}


def wanted(on: Stage) -> set[tuple[str, str]]:
    """(message, user) of all that was accepted."""
    return {(one, user) for user, ids in on.history.accepted.items() for one in ids}


def to_pubsub(topic: Topic) -> dict[str, str]:
    return {"sink": "pubsub", "topic": topic.name}


@pytest.mark.gen_test(timeout=90)
async def test_500_offline_messages_are_500_exposures_in_a_subscription(
    any_engine: Engine, pubsub_emulator: PubSubEmulator
) -> None:
    topic = Topic()
    async with stage(any_engine, exposure=to_pubsub(topic)) as on, topic.received(pubsub_emulator):
        ids = await on.backend.send_many("alice", 500)
        pod = await on.pods.start("pod-1", environ={"PUBSUB_EMULATOR_HOST": pubsub_emulator.host})
        listener = await on.live(pod, "alice")
        assert listener.ids == ids
        await on.settled("alice")
        await eventually(lambda: len(topic.exposures()) >= 500)
        assert sorted(topic.exposures()) == [(one, "alice", listener.line.id) for one in ids]
        await listener.leave(quiet=True)
        on.history.expose(topic.data)


@pytest.mark.gen_test(timeout=90 + AWAY_S)
async def test_after_an_outage_of_pubsub_under_load_no_event_is_missing(
    any_engine: Engine, pubsub_emulator: PubSubEmulator
) -> None:
    """The emulator forgets its subscription when it stops; nothing gets through before it has a new one."""
    topic = Topic()
    async with (
        TcpProxy(pubsub_emulator.port) as proxy,
        stage(any_engine, exposure=to_pubsub(topic)) as on,
    ):
        pod = await on.pods.start("pod-1", environ={"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{proxy.port}"})
        pod.expected_errors = {"exposure.sink_away"}
        clients = [await on.live(pod, user) for user in USERS]
        bystander = await on.bystander(pod)
        async with AsyncExitStack() as load:
            async with topic.received(pubsub_emulator):
                await load.enter_async_context(
                    meanwhile(*(on.backend.keep_sending(user, 0.02) for user in USERS))
                )
                await eventually(lambda: len(topic.pairs()) > 50, 15)
                proxy.refuse()
                await eventually(lambda: pod.events("exposure.sink_away"))
                # What Pub/Sub took is the subscription's to deliver; the emulator would forget it.
                published = await pod.metric('pushserver_exposures_total{where="published"}')
                await eventually(lambda: len(topic.exposures()) >= published)
            await asyncio.to_thread(pubsub_emulator.stop)
            before = len(wanted(on))
            await asyncio.sleep(AWAY_S)
            # Deliveries went on, and were settled through the spool.
            assert len(wanted(on)) > before + 50
            await eventually(lambda: on.redis.xlen("ps:exposures") > 50)
            await asyncio.to_thread(pubsub_emulator.start)
            async with topic.received(pubsub_emulator):
                proxy.refuse(False)
                await eventually(lambda: pod.events("exposure.sink_back"), 30)
                after = len(wanted(on))
                await eventually(lambda: len(wanted(on)) > after + 50)
                await load.aclose()
                await eventually(lambda: wanted(on) <= topic.pairs(), 30)
                await on.settled(*USERS)
                # The last of each came without an answer to its publisher, who had been stopped.
                shown = {(one, client.line.id) for client in clients for one in client.ids}
                await eventually(lambda: shown <= topic.shown(), 30)
        await bystander.was_unharmed()
        for client in clients:
            assert client.closed is None
            await client.leave(quiet=True)
        assert on.redis.xlen("ps:exposures") == 0
        on.history.expose(topic.data)
