"""The parts of a pod that decide about a handshake: keys, tokens, categories, and the door with its chain."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from pushserver.config import Settings
from pushserver.core.client_ip import ClientIPRule
from pushserver.core.clock import StoreClock
from pushserver.core.context import Handler
from pushserver.core.metrics import Metrics
from pushserver.core.publish_request import MAX_CATEGORIES_BYTES
from pushserver.delivery.presence import Presence
from pushserver.delivery.session import Sessions
from pushserver.delivery.tasks import Tasks
from pushserver.development import token_secret
from pushserver.parts import Stores
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
from pushserver.web.poller import Poller
from pushserver.web.token_keys import TokenKey, load_keys
from pushserver.web.tokens import KeySource, TokenVerifier
from pushserver.web.transport import SocketOptions

__all__ = [
    "Gate",
    "build_asked_categories",
    "build_door",
    "build_issuer_keys",
    "build_verifier",
    "category_source",
    "load_token_keys",
]


@dataclass(frozen=True, slots=True)
class Gate:
    """Who decides about a handshake."""

    verifier: TokenVerifier
    source: Source
    links: Sequence[Handler]
    cursor: Callable[[str], Coroutine[Any, Any, int]]
    """Where a user stands in the log; who is new stands at its end."""


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
        poller=Poller(),
        handshake_timeout_s=limits.handshake_timeout_s,
        leeway_s=gate.verifier.leeway_s,
        deflate=settings.server.deflate,
    )
