"""The consumer as a process: build, listen for who looks, consume until a signal, exit.

engine (development) -> listener -> database -> source -> (signal) -> the batch under way -> exit
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import structlog
from tornado.netutil import bind_sockets

from pushserver.config import Settings
from pushserver.core.errors import ConfigError
from pushserver.core.metrics import Metrics
from pushserver.database.database import Database
from pushserver.database.intake import Intake
from pushserver.development import DATA_DIRECTORY
from pushserver.exposure.consumer import Consumer
from pushserver.exposure.source import Source
from pushserver.exposure.stream_source import StreamSource
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from pushserver.stores.embedded import EmbeddedValkey, embedded_url
from pushserver.stores.exposure_stream import ExposureStream
from pushserver.stores.keys import Keys
from pushserver.web.probe import probe_server

__all__ = ["run"]

log = structlog.get_logger(__name__)

REDIS_CONNECTIONS = 2
CLOSE_S = 0.5
"""What Redis may take to answer what was asked last."""
SHOW_S = 1.0
"""Between two progress lines on a terminal."""
TELL_S = 60.0
"""Between two in a log."""


def run(settings: Settings) -> int:
    """Consume until SIGTERM or SIGINT; the exit code.

    Raises `ConfigError` for a port that is taken or a database of a newer version, and `StoreError` when
    the embedded engine does not start. Anything else that is away is waited for.
    """
    engine = None
    if settings.development and settings.consume.source == "stream":
        engine = EmbeddedValkey(DATA_DIRECTORY / "valkey")
        engine.start()
    try:
        return asyncio.run(_run(settings))
    finally:
        if engine is not None:
            engine.stop()


async def _run(settings: Settings) -> int:
    metrics = Metrics()
    database = Database(
        settings.consume.database_url.get_secret_value(), timeout_s=settings.consume.timeout_s
    )
    intake = Intake(database, timeout_s=settings.consume.timeout_s)
    try:
        async with _source(settings, metrics) as source:
            await _consume(settings, Consumer(source, intake, metrics), metrics)
    finally:
        await _within(settings.drain.timeout_s / 2, intake.close())
    return 0


async def _consume(settings: Settings, consumer: Consumer, metrics: Metrics) -> None:
    sockets = _bind(settings)
    server = probe_server(metrics, lambda: consumer.away)
    server.add_sockets(sockets)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _signalled, consumer, number)
    log.info(
        "consume.started", source=settings.consume.source, port=sockets[0].getsockname()[1], pid=os.getpid()
    )
    progress = asyncio.create_task(_show_progress(metrics), name="progress")
    try:
        await consumer.run()
    finally:
        progress.cancel()
        await asyncio.wait([progress])
        server.stop()
        await server.close_all_connections()
        for sock in sockets:
            sock.close()
    log.info("consume.stopped", **_figures(metrics))


def _signalled(consumer: Consumer, number: signal.Signals) -> None:
    log.info("consume.stopping", signal=number.name)
    consumer.stop()


@asynccontextmanager
async def _source(settings: Settings, metrics: Metrics) -> AsyncIterator[Source]:
    pubsub = settings.consume.source == "pubsub"
    async with _pubsub(settings, metrics) if pubsub else _stream(settings, metrics) as source:
        yield source


@asynccontextmanager
async def _pubsub(settings: Settings, metrics: Metrics) -> AsyncIterator[Source]:
    # Google's client takes a second to load, and 50 MB.
    from pushserver.exposure.pubsub_source import PubSubSource  # noqa: PLC0415
    from pushserver.exposure.pubsub_subscription import PubSubSubscription  # noqa: PLC0415

    consume = settings.consume
    source = PubSubSource(
        PubSubSubscription(consume.subscription, settings.exposure.topic),
        metrics,
        batch_events=consume.batch_events,
        batch_bytes=consume.batch_bytes,
    )
    try:
        yield source
    finally:
        await source.close()


@asynccontextmanager
async def _stream(settings: Settings, metrics: Metrics) -> AsyncIterator[Source]:
    consume, redis = settings.consume, settings.redis
    url = embedded_url(DATA_DIRECTORY / "valkey") if settings.development else redis.url.get_secret_value()
    client = connect(url, timeout_ms=redis.timeout_ms, max_connections=REDIS_CONNECTIONS)
    commands = Commands(client, metrics, timeout_s=redis.timeout_ms / 1000, max_in_flight=REDIS_CONNECTIONS)
    source = StreamSource(
        ExposureStream(commands, Keys(redis.prefix).exposures, settings.exposure.spool_max),
        _consumer_name(),
        metrics,
        batch_events=consume.batch_events,
        batch_bytes=consume.batch_bytes,
        claim_after_s=consume.claim_after_s,
    )
    try:
        yield source
    finally:
        await source.close()
        await _within(CLOSE_S, commands.close())
        await client.aclose()


def _consumer_name() -> str:
    """Of this process only: a name that came back would take what is pending under it for its own."""
    return f"{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"


def _bind(settings: Settings) -> list[socket.socket]:
    host, port = settings.consume.host, settings.consume.port
    try:
        return bind_sockets(port, address=host)
    except OSError as error:
        raise ConfigError("consume.port", f"{host}:{port} cannot be used: {error.strerror}") from None


async def _within(seconds: float, work: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        log.warning("consume.left_behind", after_s=seconds)


def _figures(metrics: Metrics) -> dict[str, int]:
    value = metrics.registry.get_sample_value
    new = value("pushserver_consumed_exposures_total", {"result": "new"}) or 0
    known = value("pushserver_consumed_exposures_total", {"result": "known"}) or 0
    return {"stored": int(new), "known": int(known)}


async def _show_progress(metrics: Metrics) -> None:
    """One line that is written over on a terminal; in a log now and then, if there is news."""
    terminal = sys.stderr.isatty()
    shown, told_at = _figures(metrics), time.monotonic()
    while True:
        await asyncio.sleep(SHOW_S)
        figures = _figures(metrics)
        if figures == shown:
            continue
        if terminal:
            text = f"\r{figures['stored']} exposures stored, {figures['known']} known already "
            print(text, end="", file=sys.stderr, flush=True)
        elif time.monotonic() - told_at >= TELL_S:
            log.info("consume.progress", **figures)
            told_at = time.monotonic()
        else:
            continue
        shown = figures
