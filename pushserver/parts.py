"""The parts of a pod that settings shape, each built by one function; `app` puts them together.

Those that decide about a handshake are in `door_parts`.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from dataclasses import dataclass

from redis.asyncio import Redis

from pushserver import __version__
from pushserver.config import Settings
from pushserver.core.alarm import Alarm
from pushserver.core.clock import StoreClock
from pushserver.core.metrics import Metrics
from pushserver.delivery.explain import Explainer
from pushserver.delivery.feeds import Feeds
from pushserver.delivery.lease import Lease
from pushserver.delivery.manager import Manager
from pushserver.delivery.presence import Presence
from pushserver.delivery.publish import Publisher
from pushserver.delivery.questions import Questions
from pushserver.delivery.reaper import Reaper
from pushserver.delivery.session import Limits
from pushserver.delivery.users import Users
from pushserver.exposure.null_sink import NullSink
from pushserver.exposure.outlet import Outlet
from pushserver.exposure.pubsub_sink import PubSubSink
from pushserver.exposure.pubsub_topic import PubSubTopic
from pushserver.exposure.stream_sink import StreamSink
from pushserver.stores.category_store import CategoryStore
from pushserver.stores.client import connect
from pushserver.stores.cluster import Cluster
from pushserver.stores.commands import Commands
from pushserver.stores.content import ContentStore
from pushserver.stores.cursor import CursorStore
from pushserver.stores.exposure_stream import ExposureStream
from pushserver.stores.feed import FeedStore
from pushserver.stores.inbox import Inbox
from pushserver.stores.keys import Keys
from pushserver.stores.lease import LeaseStore
from pushserver.stores.log import LogStore
from pushserver.stores.presence import PresenceStore
from pushserver.stores.replies import Replies
from pushserver.stores.stream import StreamReader
from pushserver.stores.whereabouts import Whereabouts

__all__ = [
    "Stores",
    "build_explainer",
    "build_lease",
    "build_outlet",
    "build_publisher",
    "build_reaper",
    "build_stores",
    "build_users",
    "connection_limits",
]

READERS = 2
CLOSE_S = 0.5
"""What a drain keeps of its time for this."""
MAX_PIPELINES = 4
"""Pipelines that travel to Redis at a time, without publishes."""


@dataclass(slots=True)
class Stores:
    """The client of Redis and everything that is kept there."""

    client: Redis | Cluster
    commands: Commands
    clock: StoreClock
    presence: PresenceStore
    inbox: Inbox
    contents: ContentStore
    categories: CategoryStore
    leases: LeaseStore
    exposures: ExposureStream
    reader: StreamReader
    feeds: FeedStore
    log: LogStore
    cursors: CursorStore
    whereabouts: Whereabouts
    replies: Replies

    async def close(self) -> None:
        """Wait `CLOSE_S` for what is on its way, then disconnect: a Redis that hangs holds no exit."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self.commands.close()
        await self.client.aclose()
        await self.reader.close()


def build_stores(settings: Settings, redis_url: str, pod: str, metrics: Metrics) -> Stores:
    """Stores on the engine at `redis_url`, for the pod of that name. Nothing is connected yet."""
    redis, inbox = settings.redis, settings.inbox
    # One more, so that publishes, which wait for a replica or the disk, hold up nothing else.
    client = connect(redis_url, timeout_ms=redis.timeout_ms, max_connections=redis.max_connections + 1)
    commands = Commands(
        client,
        metrics,
        timeout_s=redis.timeout_ms / 1000,
        max_in_flight=min(MAX_PIPELINES, redis.max_connections),
        durability=redis.durability,
    )
    keys = Keys(redis.prefix)
    # Two reads wait for entries all the time: of the feed and of the log.
    waiting = connect(redis_url, timeout_ms=redis.timeout_ms, max_connections=READERS)
    reader = StreamReader(waiting, timeout_s=redis.timeout_ms / 1000)
    idempotency_s = settings.publish.idempotency_s
    return Stores(
        client=client,
        commands=commands,
        clock=StoreClock(),
        presence=PresenceStore(commands, keys, pod),
        inbox=Inbox(
            commands,
            keys,
            cap=inbox.cap,
            ttl_s=inbox.ttl_s,
            idempotency_s=idempotency_s,
            record_s=settings.publish.record_s,
        ),
        contents=ContentStore(commands, keys, record_s=settings.publish.record_s),
        categories=CategoryStore(commands, keys),
        leases=LeaseStore(commands, keys, pod, settings.pod.lease_ms),
        exposures=ExposureStream(commands, keys.exposures, settings.exposure.spool_max),
        reader=reader,
        feeds=FeedStore(commands, keys, reader, pod),
        log=LogStore(
            commands,
            keys,
            reader,
            max_length=settings.log.max_length,
            retention_s=settings.log.retention_s,
            idempotency_s=idempotency_s,
        ),
        cursors=CursorStore(commands, keys),
        whereabouts=Whereabouts(commands, keys),
        replies=Replies(commands, keys),
    )


def build_publisher(settings: Settings, stores: Stores, feeds: Feeds, metrics: Metrics) -> Publisher:
    """Who stores messages and hints at them."""
    return Publisher(
        contents=stores.contents,
        inbox=stores.inbox,
        log=stores.log,
        presence=stores.presence,
        leases=stores.leases,
        feeds=feeds,
        clock=stores.clock,
        metrics=metrics,
        idempotency_s=settings.publish.idempotency_s,
        inline_bytes=settings.publish.inline_bytes,
        max_bytes=settings.content.max_bytes,
        max_ttl_s=settings.content.max_ttl_s,
    )


def build_users(settings: Settings, stores: Stores, feeds: Feeds, manager: Manager | None) -> Users:
    """What is asked about users, and done to them."""
    return Users(
        inbox=stores.inbox,
        contents=stores.contents,
        categories=stores.categories,
        presence=stores.presence,
        leases=stores.leases,
        feeds=feeds,
        manager=manager,
        stored_categories=settings.categories.source == "redis",
    )


def build_explainer(settings: Settings, stores: Stores, feeds: Feeds) -> Explainer:
    """Who says where a message is, and why."""
    return Explainer(
        whereabouts=stores.whereabouts,
        log=stores.log,
        cursors=stores.cursors,
        presence=stores.presence,
        questions=Questions(feeds, stores.replies),
        clock=stores.clock,
        cap=settings.inbox.cap,
        idempotency_s=settings.publish.idempotency_s,
    )


def build_outlet(settings: Settings, stores: Stores, pod: str, metrics: Metrics) -> Outlet:
    """Where exposure events go: the sink of the settings, with the stream as its spool."""
    exposure = settings.exposure
    if exposure.sink == "none":
        return Outlet(NullSink(), None, pod, metrics)
    if exposure.sink == "stream":
        return Outlet(StreamSink(stores.exposures, metrics, Alarm()), None, pod, metrics)
    sink = PubSubSink(
        PubSubTopic(exposure.topic, create=settings.development),
        batch_events=exposure.batch_events,
        batch_bytes=exposure.batch_bytes,
        batch_ms=exposure.batch_ms,
    )
    return Outlet(sink, stores.exposures, pod, metrics)


def connection_limits(settings: Settings) -> Limits:
    """The bounds of a connection."""
    delivery = settings.delivery
    return Limits(
        messages=delivery.window,
        bytes=delivery.window_bytes,
        ping_interval_s=delivery.ping_interval_s,
        ping_timeout_s=delivery.ping_timeout_s,
        ack_timeout_s=delivery.ack_timeout_s,
        log_confirm_s=delivery.log_confirm_s,
        frames_per_s=settings.limits.frames_per_s,
        per_user=settings.limits.connections_per_user,
    )


def build_lease(settings: Settings, stores: Stores, presence: Presence, metrics: Metrics, pod: str) -> Lease:
    """This pod's right to be believed alive."""
    return Lease(
        stores.leases,
        stores.presence,
        presence,
        stores.clock,
        metrics,
        pod=pod,
        lease_ms=settings.pod.lease_ms,
        about={
            "host": socket.gethostname(),
            "address": f"{settings.server.host}:{settings.server.port}",
            "started": str(int(time.time() * 1000)),
            "version": __version__,
        },
    )


def build_reaper(settings: Settings, stores: Stores, metrics: Metrics) -> Reaper:
    """Who takes presence from the dead."""
    return Reaper(
        stores.leases,
        stores.presence,
        stores.clock,
        metrics,
        lease_ms=settings.pod.lease_ms,
        last_fault=lambda: stores.commands.last_fault,
    )
