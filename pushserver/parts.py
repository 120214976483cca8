"""The parts of a pod that settings shape, each built by one function; `app` puts them together."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from pushserver import __version__
from pushserver.config import Settings
from pushserver.core.alarm import Alarm
from pushserver.core.client_ip import ClientIPRule
from pushserver.core.clock import StoreClock
from pushserver.core.context import Handler
from pushserver.core.metrics import Metrics
from pushserver.core.publish_request import MAX_CATEGORIES_BYTES
from pushserver.delivery.explain import Explainer
from pushserver.delivery.feeds import Feeds
from pushserver.delivery.lease import Lease
from pushserver.delivery.manager import Manager
from pushserver.delivery.presence import Presence
from pushserver.delivery.publish import Publisher
from pushserver.delivery.questions import Questions
from pushserver.delivery.reaper import Reaper
from pushserver.delivery.session import Limits, Sessions
from pushserver.delivery.tasks import Tasks
from pushserver.delivery.users import Users
from pushserver.development import token_secret
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
from pushserver.web.asked_categories import AskedCategories
from pushserver.web.chain.admission import Admission
from pushserver.web.chain.authenticate import Authenticate
from pushserver.web.chain.categories import CategoriesLink, Source, from_claims, from_redis
from pushserver.web.chain.client_ip import client_ip
from pushserver.web.chain.origin import Origin
from pushserver.web.chain.recovery import recovery
from pushserver.web.door import Door
from pushserver.web.issuer_keys import MAX_BYTES, TIMEOUT_S, IssuerKeys
from pushserver.web.origins import OriginPolicy
from pushserver.web.token_keys import TokenKey, load_keys
from pushserver.web.tokens import KeySource, TokenVerifier
from pushserver.web.transport import SocketOptions

__all__ = [
    "Gate",
    "Stores",
    "build_asked_categories",
    "build_door",
    "build_explainer",
    "build_issuer_keys",
    "build_lease",
    "build_outlet",
    "build_publisher",
    "build_reaper",
    "build_stores",
    "build_users",
    "build_verifier",
    "category_source",
    "connection_limits",
    "load_token_keys",
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


@dataclass(frozen=True, slots=True)
class Gate:
    """Who decides about a handshake."""

    verifier: TokenVerifier
    source: Source
    links: Sequence[Handler]
    cursor: Callable[[str], Coroutine[Any, Any, int]]
    """Where a user stands in the log; who is new stands at its end."""


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


def build_issuer_keys(settings: Settings, metrics: Metrics) -> IssuerKeys | None:
    """The keys behind `auth.jwks_url`; None without one. Raises `ConfigError`."""
    auth = settings.auth
    if not auth.jwks_url:
        return None
    # Only here, for it brings aiohttp along: 8 MB that a pod which asks nobody does not need.
    from pushserver.web.fetch import Fetcher, tls_context  # noqa: PLC0415

    tls = tls_context("auth.jwks_ca_file", auth.jwks_ca_file)
    return IssuerKeys(
        Fetcher(tls, timeout_s=TIMEOUT_S, max_bytes=MAX_BYTES),
        auth.jwks_url,
        [name for name in auth.algorithms if name != "HS256"],
        metrics,
        refresh_s=auth.jwks_refresh_s,
        max_stale_s=auth.jwks_max_stale_s,
    )


def build_verifier(settings: Settings, clock: StoreClock, source: KeySource | None) -> TokenVerifier:
    """Whose tokens are believed. Raises `ConfigError`."""
    auth = settings.auth
    return TokenVerifier(
        load_token_keys(settings),
        issuer=auth.issuer,
        audience=auth.audience,
        leeway_s=auth.leeway_s,
        now=clock.now_s,
        source=source,
    )


def load_token_keys(settings: Settings) -> Sequence[TokenKey]:
    """The keys that tokens may be signed with. Reads files. Raises `ConfigError`."""
    auth = settings.auth
    secret = token_secret(settings) if "HS256" in auth.algorithms else auth.secret.get_secret_value()
    return load_keys(
        auth.algorithms,
        secret=secret.encode(),
        previous_secret=auth.previous_secret.get_secret_value().encode(),
        public_key_file=auth.public_key_file,
        jwks_url=auth.jwks_url,
    )


def build_asked_categories(settings: Settings, metrics: Metrics) -> AskedCategories | None:
    """Who asks a back end for categories; None unless `categories.source` is http. Raises `ConfigError`."""
    categories = settings.categories
    if categories.source != "http":
        return None
    # Only here, see `build_issuer_keys`.
    from pushserver.web.fetch import Fetcher, tls_context  # noqa: PLC0415

    authorization = categories.authorization.get_secret_value()
    fetcher = Fetcher(
        tls_context("categories.ca_file", categories.ca_file),
        timeout_s=categories.timeout_ms / 1000,
        max_bytes=MAX_CATEGORIES_BYTES,
        max_connections=categories.max_connections,
        headers={"Authorization": authorization} if authorization else {},
    )
    return AskedCategories(fetcher, categories.url, metrics)


def category_source(settings: Settings, stores: Stores, asked: AskedCategories | None) -> Source:
    """Where categories are read."""
    if asked is not None:
        return asked
    if settings.categories.source == "claims":
        return from_claims
    return from_redis(stores.categories.read)


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


def build_door(
    settings: Settings,
    sessions: Sessions,
    presence: Presence,
    metrics: Metrics,
    *,
    tasks: Tasks,
    gate: Gate,
) -> Door:
    """The door for clients, with the chain in its order and at its end the links of the package's user."""
    limits, delivery = settings.limits, settings.delivery
    admission = Admission(
        max_connections=settings.server.max_connections,
        per_ip=limits.connections_per_ip,
        handshakes_per_s=limits.handshakes_per_s,
        retry_after_s=1,
    )
    policy = OriginPolicy(settings.origin.allow, allow_loopback=settings.development)
    categories = CategoriesLink(
        gate.source,
        presence.announce,
        gate.cursor,
        connect_wait_ms=settings.redis.connect_wait_ms,
        asks_elsewhere=settings.categories.source == "http",
    )
    return Door(
        chain=(
            recovery,
            client_ip,
            admission.handle,
            Origin(policy, query_token=settings.auth.query_token).handle,
            Authenticate(gate.verifier).handle,
            categories.handle,
            *gate.links,
        ),
        client_ip_rule=ClientIPRule(settings.proxy.trusted, settings.proxy.headers, settings.proxy.platform),
        sessions=sessions,
        presence=presence,
        admission=admission,
        metrics=metrics,
        tasks=tasks,
        socket_options=SocketOptions(
            max_backlog=delivery.window_bytes + settings.content.max_bytes + 512 * 1024,
            max_frame_bytes=limits.max_frame_bytes,
            send_buffer_bytes=settings.server.send_buffer_bytes,
            user_timeout_ms=int((delivery.ping_interval_s + delivery.ping_timeout_s) * 1000),
        ),
        handshake_timeout_s=limits.handshake_timeout_s,
        leeway_s=gate.verifier.leeway_s,
        deflate=settings.server.deflate,
    )
