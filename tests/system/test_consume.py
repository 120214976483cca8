"""From a publish to the database: whatever happens on the way, each delivery is there once, and it adds up.

20 000 messages go to users on two pods, while a pod and a consumer are killed, the sink stops and starts, and
some exposures are sent twice on purpose.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from pushserver.core.alarm import Alarm
from pushserver.core.metrics import Metrics
from pushserver.exposure.event import Event, build_events, connection_part, event_id
from pushserver.exposure.outlet import Outlet
from pushserver.exposure.pubsub_sink import PubSubSink
from pushserver.exposure.pubsub_subscription import PubSubSubscription
from pushserver.exposure.pubsub_topic import PubSubTopic
from pushserver.exposure.sink import Sink
from pushserver.exposure.stream_sink import StreamSink
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from pushserver.stores.exposure_stream import ExposureStream
from tests.consumer_process import Consumers, consumers
from tests.database.look import ask
from tests.engines.engine import Engine
from tests.engines.postgres import Postgres
from tests.engines.pubsub_emulator import PubSubEmulator
from tests.engines.tcp_proxy import TcpProxy
from tests.exposure.examples import exposure
from tests.pod import eventually
from tests.pod_process import NO_MORE, Environ
from tests.system.command import run_command
from tests.system.crowd import Crowd
from tests.system.history import Exposed
from tests.system.stage import Stage, stage, together

pytestmark = pytest.mark.system

USERS = [f"user-{number}" for number in range(100)]
"""Who gets each message."""
DELIVERIES = 20_000
REPEATS = 500
"""Exposures that are sent once more."""


Trouble = Callable[[Coroutine[None, None, None]], Awaitable[None]]
"""Does what it is given, which publishes, while the sink is stopped for a while."""


class Story:
    """Who takes part: two pods with a crowd, a back end, two consumers, and the sink that stops."""

    def __init__(
        self, on: Stage, team: Consumers, url: str, deliveries: int, environ: Environ = NO_MORE
    ) -> None:
        self.on = on
        self._environ = environ
        self.crowd = Crowd(on.history, lambda: self.pods, random.Random(1))
        self.pods = list(on.pods.all)
        self._team = team
        self._url = url
        self._messages = deliveries // len(USERS)

    def stored(self) -> int:
        """Rows; none while the first consumer has made no tables yet."""
        with suppress(sqlite3.OperationalError, psycopg.errors.UndefinedTable):
            (row,) = ask(self._url, "SELECT count(*) FROM exposures")
            return int(row[0])
        return 0

    async def go_on(self, sink: Sink, trouble: Trouble) -> None:
        """Publish all, and let things happen; the crowd stays until it has everything."""
        for user in USERS:
            self.crowd.invite(user, devices=1, steady=True)
        guests = [asyncio.ensure_future(guest.run()) for guest in self.crowd.guests]
        try:
            await eventually(self.crowd.all_live, 30)
            await together(self._publish(self._messages // 3), self._die_and_replace())
            await trouble(self._publish(self._messages - self._messages // 3))
            await self._repeat(sink)
            await self.on.settled(*USERS, within_s=60)
            await self._adds_up()
        finally:
            self.crowd.over.set()
            if all(guest.device is not None for guest in self.crowd.guests):
                self.crowd.go_home()
            await asyncio.wait(guests, timeout=10)
            await self.crowd.vanish()

    async def _publish(self, count: int) -> None:
        for _ in range(count):
            await self.on.backend.until_answered(self.on.backend.to_users(USERS))

    async def _die_and_replace(self) -> None:
        """In the middle of it a consumer and a pod are killed; other ones come."""
        victim, other = self._team.all
        await eventually(lambda: self.stored() > 100, 30)
        victim.kill()
        self.pods.pop(0).kill()
        assert self.stored() < self._messages * len(USERS) / 2, "it was over before the kill"
        third, pod = await asyncio.gather(
            self._team.start(), self.on.pods.start("pod-3", environ=self._environ)
        )
        self.pods.append(pod)
        for consumer in (other, third):
            consumer.expected_errors = {"consume.away"}
        for one in self.pods:
            one.expected_errors = {"exposure.sink_away"}

    async def _repeat(self, sink: Sink) -> None:
        """On purpose: what is stored already, in events of other forms, and one that is none."""
        columns = (
            "username, connection, client_ip, message_id, source, queued_at, pushed_at, confirmed_at, proof"
        )
        rows = ask(self._url, f"SELECT {columns} FROM exposures LIMIT {REPEATS}")
        shown = [
            exposure(message_id, source, queued_at, connection_part(user, line, ip, {}), *how)
            for user, line, ip, message_id, source, queued_at, *how in rows
        ]
        outlet = Outlet(sink, None, "pod-1", Metrics())
        await outlet.start()
        await outlet.accept([Event("", "", 0, b"poison"), *build_events(shown, "pod-1")])
        await outlet.drain(asyncio.get_running_loop().time() + 5)

    async def _adds_up(self) -> None:
        """Reconciled, of all that was published nothing is missing, and the rows are what was delivered."""
        store = {"consume": {"database_url": self._url}, "redis": {"url": self.on.engine.url}}
        code, out = await run_command("reconcile", "--json", "--since=1h", "--wait=60", settings=store)
        assert code == 0, out
        found = json.loads(out)
        count = self._messages * len(USERS)
        assert found["messages"] == self._messages
        assert {**found["totals"], "difference": 0} == {
            **dict.fromkeys(found["totals"], 0),
            "accepted": count,
            "exposed": count,
        }
        # Repeats and poison, too, before the consumers leave.
        await eventually(lambda: ask(self._url, "SELECT count(*) FROM dead_letters") == [(1,)], 30)
        await eventually(lambda: not self.on.redis.xlen("ps:exposures"), 30)

    def look(self) -> None:
        """Each row is another exposure, and its id is what it says; the checker judges the rest."""
        rows = ask(self._url, "SELECT event_id, message_id, username, connection, proof FROM exposures")
        assert len({row[0] for row in rows}) == len(rows)
        for one, message_id, user, connection, _ in rows:
            assert str(one) == event_id(message_id, user, connection)
        self.on.history.exposed += [Exposed(*map(str, row[1:])) for row in rows]


@asynccontextmanager
async def stream_of(server: Engine) -> AsyncIterator[ExposureStream]:
    client = connect(server.url, timeout_ms=1000, max_connections=4)
    commands = Commands(client, Metrics(), timeout_s=1)
    yield ExposureStream(commands, "ps:exposures", 1_000_000)
    await commands.close()
    await client.aclose()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What the back end says of a Redis that the test stops."""
    with capture_logs():
        yield


@pytest.mark.gen_test(timeout=180)
async def test_through_the_stream_20_000_deliveries_are_stored_once(
    any_engine: Engine, tmp_path: Path
) -> None:
    """The sink stops: Redis is killed, and started again from its file."""
    url = f"sqlite:///{tmp_path / 'exposures.db'}"
    # Small batches, so that there is a middle to be killed in.
    consume = {"database_url": url, "batch_events": 50, "claim_after_s": 1}
    given = {"redis": {"url": any_engine.url, "timeout_ms": 1000}, "consume": consume}
    async with stage(any_engine) as on, stream_of(any_engine) as stream:
        with consumers(given) as team:
            await together(on.pods.start("pod-1"), on.pods.start("pod-2"), team.start(), team.start())
            story = Story(on, team, url, DELIVERIES)

            async def trouble(publishing: Coroutine[None, None, None]) -> None:
                any_engine.kill()
                task = asyncio.ensure_future(publishing)
                await asyncio.sleep(0.3)
                await asyncio.to_thread(any_engine.start)
                await task

            await story.go_on(StreamSink(stream, Metrics(), Alarm()), trouble)
            await asyncio.gather(*(consumer.stop() for consumer in team.all if not consumer.killed))
        story.look()


@pytest.mark.gen_test(timeout=180)
async def test_through_pubsub_every_delivery_is_stored_once(
    any_engine: Engine, pubsub_emulator: PubSubEmulator, postgres: Postgres
) -> None:
    """The sink stops: Pub/Sub refuses every connection for a while, and what was spooled is moved on."""
    name, url = f"consume-{uuid.uuid4().hex}", postgres.new_database()
    topic, subscription = f"projects/dev/topics/{name}", f"projects/dev/subscriptions/{name}"
    made = PubSubSubscription(subscription, topic, emulator_host=pubsub_emulator.host)
    await made.open()
    await made.close()
    exposure = {"sink": "pubsub", "topic": topic}
    consume = {"database_url": url, "batch_events": 50, "source": "pubsub", "subscription": subscription}
    given: dict[str, dict[str, Any]] = {
        "redis": {"url": any_engine.url},
        "exposure": exposure,
        "consume": consume,
    }
    async with TcpProxy(pubsub_emulator.port) as proxy, stage(any_engine, exposure=exposure) as on:
        far = {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{proxy.port}"}
        with consumers(given, environ={"PUBSUB_EMULATOR_HOST": pubsub_emulator.host}) as team:
            await together(
                on.pods.start("pod-1", environ=far),
                on.pods.start("pod-2", environ=far),
                team.start(),
                team.start(),
            )
            story = Story(on, team, url, DELIVERIES, far)

            async def trouble(publishing: Coroutine[None, None, None]) -> None:
                proxy.refuse()
                await publishing
                await on.settled(*USERS, within_s=60)
                assert on.redis.xlen("ps:exposures") > 0
                proxy.refuse(False)

            sink = PubSubSink(PubSubTopic(topic, emulator_host=pubsub_emulator.host, attempts=1))
            await story.go_on(sink, trouble)
            await asyncio.gather(*(consumer.stop() for consumer in team.all if not consumer.killed))
        story.look()
