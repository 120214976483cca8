"""From confirmed delivery to the database: whatever happens on the way, each exposure is there once.

20 000 exposures go through a pod's real outlet while the sink stops and starts, with repeats sent on purpose;
of two consumers one is killed in the middle, and a third one comes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from pushserver.core.alarm import Alarm
from pushserver.core.errors import SinkError
from pushserver.core.metrics import Metrics
from pushserver.exposure.event import Event, Exposure, build_events, connection_part, event_id
from pushserver.exposure.outlet import Outlet
from pushserver.exposure.pubsub_sink import PubSubSink
from pushserver.exposure.pubsub_subscription import PubSubSubscription
from pushserver.exposure.pubsub_topic import PubSubTopic
from pushserver.exposure.stream_sink import StreamSink
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from pushserver.stores.exposure_stream import ExposureStream
from tests.consumer_process import Consumers, consumers
from tests.database.look import ask
from tests.engines.engine import Engine
from tests.engines.pubsub_emulator import PubSubEmulator
from tests.engines.tcp_proxy import TcpProxy
from tests.pod import eventually

pytestmark = pytest.mark.system

MESSAGES = 1000
USERS = 20
"""Who gets each message: 20 000 exposures."""
SHARE = 5
"""Exposures in an event."""


def all_exposures() -> list[Exposure]:
    parts = [
        connection_part(f"user-{n}", f"c-{n}", "203.0.113.9", {"vip": (str(n % 3),)}) for n in range(USERS)
    ]
    return [
        Exposure(
            f"m-{number}",
            "live",
            1_700_000_000_000 + number,
            part,
            1_700_000_000_010 + number,
            1_700_000_000_050 + number,
            "pong",
        )
        for number in range(MESSAGES)
        for part in parts
    ]


EXPECTED = {
    event_id(f"m-{number}", f"user-{n}", f"c-{n}") for number in range(MESSAGES) for n in range(USERS)
}


def events_of(shown: Sequence[Exposure]) -> list[Event]:
    parts = (shown[start : start + SHARE] for start in range(0, len(shown), SHARE))
    return [event for part in parts for event in build_events(part, "pod-1")]


async def send(outlet: Outlet, events: Sequence[Event]) -> None:
    """As delivery does: what is not accepted is not settled, and comes again."""
    for start in range(0, len(events), 50):
        while True:
            with suppress(SinkError):
                await outlet.accept(events[start : start + 50])
                break
            await asyncio.sleep(0.05)


def stored(url: str) -> int:
    """How many; none while the first consumer has made no tables yet."""
    with suppress(sqlite3.OperationalError, psycopg.errors.UndefinedTable):
        (row,) = ask(url, "SELECT count(*) FROM exposures")
        return int(row[0])
    return 0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'exposures.db'}"
    made: str = request.getfixturevalue("postgres").new_database()
    return made


@asynccontextmanager
async def spool(server: Engine) -> AsyncIterator[ExposureStream]:
    client = connect(server.url, timeout_ms=1000, max_connections=4)
    commands = Commands(client, Metrics(), timeout_s=1)
    yield ExposureStream(commands, "ps:exposures", 1_000_000)
    await commands.close()
    await client.aclose()


async def die_and_replace(team: Consumers, url: str) -> None:
    """Two work; one is killed in the middle, and another one comes."""
    victim, other = await asyncio.gather(team.start(), team.start())
    other.expected_errors = {"consume.away"}
    await eventually(lambda: stored(url) > 1500, 30)
    victim.kill()
    assert stored(url) < len(EXPECTED) / 2, "it was over before the kill"
    third = await team.start()
    third.expected_errors = {"consume.away"}


async def is_empty(stream: ExposureStream) -> bool:
    return await stream.length() == 0


async def all_there(team: Consumers, url: str, stream: ExposureStream) -> None:
    """Each of them once, and nothing else; the consumers leave in order."""
    await eventually(lambda: stored(url) >= len(EXPECTED), 60)
    # Repeats, too.
    await eventually(lambda: is_empty(stream), 30)
    await asyncio.gather(*(consumer.stop() for consumer in team.all if not consumer.killed))
    assert ask(url, "SELECT count(*), count(DISTINCT event_id) FROM exposures") == [(len(EXPECTED),) * 2]
    assert {str(row[0]) for row in ask(url, "SELECT event_id FROM exposures")} == EXPECTED
    assert ask(url, "SELECT count(*) FROM exposures_readable WHERE categories IS NULL") == [(0,)]
    assert ask(url, "SELECT reason, count(*) FROM dead_letters GROUP BY reason") == [("not_json", 1)]


def settings(url: str, server: Engine, **consume: Any) -> dict[str, dict[str, Any]]:
    return {
        "redis": {"url": server.url, "timeout_ms": 1000},
        # Small batches, so that there is a middle to be killed in.
        "consume": {"database_url": url, "batch_events": 20, **consume},
    }


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What the outlet says of the sink that the test stops."""
    with capture_logs():
        yield


@pytest.mark.gen_test(timeout=180)
async def test_from_the_stream_every_exposure_is_stored_once(any_engine: Engine, url: str) -> None:
    """The sink stops: Redis is killed, and started again from its file."""
    shown = all_exposures()
    half, events = len(shown) // 2, events_of(shown)
    async with spool(any_engine) as stream:
        outlet = Outlet(StreamSink(stream, Metrics(), Alarm()), None, "pod-1", Metrics())
        await outlet.start()
        with consumers(settings(url, any_engine, claim_after_s=1)) as team:
            poisoned = [Event("", "", 0, b"poison"), *events[: len(events) // 2]]
            await asyncio.gather(send(outlet, poisoned), die_and_replace(team, url))
            any_engine.kill()
            sending = asyncio.create_task(send(outlet, events[len(events) // 2 :]))
            await asyncio.sleep(0.3)
            await asyncio.to_thread(any_engine.start)
            await sending
            # On purpose: the same events, and the same exposures in others.
            await send(outlet, events[::7] + build_events(shown[half : half + 500], "pod-1"))
            await all_there(team, url, stream)
        await outlet.drain(0)


@pytest.mark.gen_test(timeout=180)
async def test_from_pubsub_every_exposure_is_stored_once(
    any_engine: Engine, pubsub_emulator: PubSubEmulator, url: str
) -> None:
    """The sink stops: Pub/Sub refuses every connection for a while, and what was spooled is moved on."""
    name = f"consume-{uuid.uuid4().hex}"
    topic, subscription = f"projects/dev/topics/{name}", f"projects/dev/subscriptions/{name}"
    shown = all_exposures()
    half, events = len(shown) // 2, events_of(shown)
    made = PubSubSubscription(subscription, topic, emulator_host=pubsub_emulator.host)
    await made.open()
    await made.close()
    async with spool(any_engine) as stream, TcpProxy(pubsub_emulator.port) as proxy:
        sink = PubSubSink(PubSubTopic(topic, emulator_host=f"127.0.0.1:{proxy.port}", attempts=1))
        outlet = Outlet(sink, stream, "pod-1", Metrics(), look_s=0.1)
        await outlet.start()
        given = settings(url, any_engine, source="pubsub", subscription=subscription)
        environ = {"PUBSUB_EMULATOR_HOST": pubsub_emulator.host}
        with consumers({**given, "exposure": {"topic": topic}}, environ=environ) as team:
            poisoned = [Event("", "", 0, b"poison"), *events[: len(events) // 2]]
            await asyncio.gather(send(outlet, poisoned), die_and_replace(team, url))
            proxy.refuse()
            await send(outlet, events[len(events) // 2 :])
            assert await stream.length() > 0
            proxy.refuse(False)
            await send(outlet, events[::7] + build_events(shown[half : half + 500], "pod-1"))
            await all_there(team, url, stream)
        await outlet.drain(asyncio.get_running_loop().time() + 5)
