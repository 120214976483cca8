"""The consumer as a process: what it answers, what it waits for, how it leaves."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pushserver.core.metrics import Metrics
from pushserver.exposure.event import build_events
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from pushserver.stores.embedded import embedded_url
from pushserver.stores.exposure_stream import ExposureStream
from tests.consumer_process import ConsumerProcess, consumers
from tests.database.look import ask
from tests.engines.engine import Engine
from tests.engines.postgres import Postgres
from tests.exposure.examples import an_exposure, some_events
from tests.pod import eventually

pytestmark = pytest.mark.system


@asynccontextmanager
async def stream_of(url: str) -> AsyncIterator[ExposureStream]:
    client = connect(url, timeout_ms=4000, max_connections=2)
    commands = Commands(client, Metrics(), timeout_s=4)
    yield ExposureStream(commands, "ps:exposures", 1_000_000)
    await commands.close()
    await client.aclose()


def sections(server: Engine, url: str, **consume: Any) -> dict[str, dict[str, Any]]:
    return {
        "redis": {"url": server.url, "timeout_ms": 500},
        "consume": {"database_url": url, "timeout_s": 1, **consume},
        "drain": {"spread_s": 0.1, "timeout_s": 5},
    }


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Shorter than pytest's own: the path of a socket has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="consume-") as name:
        yield Path(name)


@pytest.mark.gen_test(timeout=90)
async def test_it_tells_that_it_lives_what_it_did_and_leaves_in_order(
    any_engine: Engine, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    async with stream_of(any_engine.url) as stream:
        await stream.add(some_events(5))
        with consumers(sections(any_engine, url)) as team:
            consumer = await team.start()
            new = 'pushserver_consumed_exposures_total{result="new"}'
            await eventually(lambda: consumer.metric(new), 15)
            assert await consumer.metric(new) == 5
            assert await consumer.get("/healthz") == (200, '{"status":"alive"}')
            assert await consumer.get("/readyz") == (200, '{"status":"ready"}')
            assert (await consumer.get("/elsewhere"))[0] == 404
            await consumer.stop()
            (line,) = consumer.events("consume.stopped")
            assert (line["stored"], line["known"]) == (5, 0)


@pytest.mark.gen_test(timeout=90)
async def test_without_settings_it_runs_the_embedded_engine_and_keeps_a_file(short_folder: Path) -> None:
    with consumers({}, folder=short_folder) as team:
        consumer = await team.start()
        async with stream_of(embedded_url(short_folder / ".pushserver" / "valkey")) as stream:
            await stream.add(some_events(3))
            await eventually(lambda: is_empty(stream), 15)
        await consumer.stop()
    database = short_folder / ".pushserver" / "exposures.db"
    assert ask(f"sqlite:///{database}", "SELECT count(*) FROM exposures") == [(3,)]


async def is_empty(stream: ExposureStream) -> bool:
    return await stream.length() == 0


@pytest.mark.gen_test(timeout=120)
async def test_while_the_database_hangs_nothing_is_acknowledged_and_memory_stays(
    any_engine: Engine, postgres: Postgres
) -> None:
    """It says so once, is not ready, goes on by itself, and what it was given meanwhile is all stored."""
    url = postgres.new_database()
    async with stream_of(any_engine.url) as stream:
        with consumers(sections(any_engine, url)) as team:
            consumer = await team.start()
            consumer.expected_errors = {"consume.away"}
            await stream.add(some_events(1, "first"))
            await eventually(lambda: is_empty(stream), 20)
            postgres.freeze()
            before = consumer.figure("VmRSS")
            events = [
                build_events([an_exposure(f"u-{u}", f"c-{n}") for u in range(500)], "pod-1")[0]
                for n in range(100)
            ]
            await stream.add(events)
            await eventually(lambda: consumer.events("consume.away"), 20)
            assert (await consumer.get("/healthz"))[0] == 200
            assert (await consumer.get("/readyz"))[0] == 503
            await asyncio.sleep(2)
            assert await stream.length() == 100
            assert consumer.figure("VmRSS") < before + 60_000
            postgres.thaw()
            await eventually(lambda: is_empty(stream), 40)
            await consumer.stop()
            assert len(consumer.events("consume.away")) == 1
            assert consumer.events("consume.back")
    assert ask(url, "SELECT count(*), count(DISTINCT event_id) FROM exposures") == [(50_001, 50_001)]


@pytest.mark.gen_test(timeout=90)
async def test_it_leaves_in_time_while_everything_is_away(any_engine: Engine, tmp_path: Path) -> None:
    """And what it did not commit is still there for the next one."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    async with stream_of(any_engine.url) as stream:
        with consumers(sections(any_engine, url, claim_after_s=0.5)) as team:
            consumer = await team.start()
            consumer.expected_errors = {"consume.away"}
            await eventually(lambda: consumer.get("/readyz"), 10)
            lock = sqlite3.connect(tmp_path / "x.db")
            lock.execute("BEGIN IMMEDIATE")
            await stream.add(some_events(4))
            await eventually(lambda: consumer.events("consume.away"), 20)
            any_engine.freeze()
            await consumer.stop()
            any_engine.thaw()
            lock.close()
            assert await stream.length() == 4
            heir = await team.start()
            await eventually(lambda: is_empty(stream), 20)
            await heir.stop()
    assert ask(url, "SELECT count(*) FROM exposures") == [(4,)]


@pytest.mark.gen_test(timeout=60)
async def test_what_no_waiting_mends_ends_it_with_the_settings_name(
    any_engine: Engine, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    ask(url, "CREATE TABLE schema_version (version INTEGER)")
    ask(url, "INSERT INTO schema_version VALUES (99)")
    with consumers(sections(any_engine, url)) as team:
        consumer = ConsumerProcess(sections(any_engine, url), environ={}, folder=None)
        team.all.append(consumer)
        assert await consumer.exit_code() == 2
        assert "consume.database_url" in consumer.stderr
