"""The admin listener: health, metrics, and what back ends and operators ask."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from tornado.web import Application

from pushserver.core.errors import InvalidNameError, StoreError
from pushserver.core.jsontext import dump
from pushserver.core.metrics import Metrics
from pushserver.core.names import check_username
from pushserver.web.chain.admission import address_key
from pushserver.web.guesses import Guesses
from pushserver.web.handler import JsonErrors, NotFound
from pushserver.web.listener import Listener
from pushserver.web.request import plain_request

__all__ = ["Admin", "admin_server"]

MAX_BODY_BYTES = 64 * 1024
IDLE_S = 60


@dataclass(slots=True)
class Admin:
    """What the handlers need, built once."""

    metrics: Metrics
    api_keys: Sequence[str]
    """Empty: whoever reaches the listener, which settings then keep on loopback."""
    describe_user: Callable[[str], Awaitable[dict[str, Any]]]
    describe_pod: Callable[[], dict[str, Any]]
    ready: Callable[[], str]
    """Empty when the pod may take traffic, else why not."""
    guesses: Guesses = field(default_factory=Guesses)
    key_bytes: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.key_bytes = [key.encode() for key in self.api_keys]

    def knows(self, key: str) -> bool:
        """Whether it is one of the keys. Every key is compared, each in constant time."""
        given = key.encode("utf-8", "replace")
        return sum(hmac.compare_digest(given, known) for known in self.key_bytes) > 0


class _Handler(JsonErrors):
    def initialize(self, admin: Admin) -> None:
        """Take what `app` built."""
        self.admin = admin

    def has_key(self) -> bool:
        """Whether the request brings an API key; if not, it was answered."""
        key, address = _bearer(self.request.headers.get("Authorization", "")), self.address()
        if self.admin.guesses.exhausted(address):
            self.set_header("Retry-After", "60")
            self.refuse(429, "too_many_guesses", "too many wrong keys from this address")
            return False
        if self.admin.knows(key):
            self.admin.guesses.right(address)
            return True
        if key:
            self.admin.guesses.wrong(address)
        self.set_header("WWW-Authenticate", "Bearer")
        self.refuse(401, "not_authenticated", "an API key is needed: Authorization: Bearer KEY")
        return False

    def address(self) -> str:
        """Whom guesses are counted for."""
        return address_key(plain_request(self.request).peer)

    def answer(self, fields: dict[str, Any], status: int = 200) -> None:
        """Finish with JSON."""
        self.set_status(status)
        self.finish(dump(fields))


class Health(_Handler):
    """`/healthz`: the process is alive."""

    def get(self) -> None:
        """200 as long as the loop turns."""
        self.answer({"status": "alive"})


class Ready(_Handler):
    """`/readyz`: the pod may take traffic."""

    def get(self) -> None:
        """200, or 503 with the reason: starting, draining, Redis away."""
        reason = self.admin.ready()
        if reason:
            self.set_header("Retry-After", "1")
            self.refuse(503, "not_ready", reason)
        else:
            self.answer({"status": "ready"})


class MetricsPage(_Handler):
    """`/metrics`, for Prometheus: from another host with an API key."""

    def prepare(self) -> None:
        """Refuse whoever is neither on this host nor has a key."""
        if self.admin.api_keys and not _is_loopback(self.address()):
            self.has_key()

    def get(self) -> None:
        """The registry's text; no label holds a name."""
        self.set_header("Content-Type", CONTENT_TYPE_LATEST)
        self.finish(generate_latest(self.admin.metrics.registry))


class _Api(_Handler):
    """`/v1/*`: with an API key, never from a web page."""

    def prepare(self) -> None:
        """Refuse a browser's cross-site request and a request without a key."""
        headers = self.request.headers
        if "Origin" in headers or headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            self.refuse(403, "origin", "not for web pages")
        elif not self.admin.api_keys:
            if not _is_literal(plain_request(self.request).host):
                # A page whose host name was made to lead here has no Origin on a GET, but its own Host.
                self.refuse(421, "wrong_host", "ask for it by address or localhost, or set admin.api_keys")
        else:
            self.has_key()


class User(_Api):
    """`GET /v1/users/U`: where a user is, and what waits."""

    async def get(self, user: str) -> None:
        """Presence by pod, connections on this pod, categories, inbox length, parked."""
        try:
            fields = await self.admin.describe_user(check_username(user))
        except InvalidNameError as error:
            self.refuse(400, "bad_username", str(error))
        except StoreError as error:
            self.set_header("Retry-After", "1")
            self.refuse(503, "unavailable", f"storage is unavailable ({error.kind})")
        else:
            self.answer(fields)


class Stats(_Api):
    """`GET /v1/stats`: this pod's figures."""

    def get(self) -> None:
        """Counts of this moment."""
        self.answer(self.admin.describe_pod())


def _bearer(value: str) -> str:
    scheme, _, key = value.partition(" ")
    return key.strip(" ") if scheme.lower() == "bearer" else ""


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_literal(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    if name.lower() == "localhost" or not name:
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def admin_server(admin: Admin) -> Listener:
    """The server for back ends and operators."""
    own = {"admin": admin}
    routes: list[Any] = [
        ("/healthz", Health, own),
        ("/readyz", Ready, own),
        ("/metrics", MetricsPage, own),
        ("/v1/users/([^/]+)", User, own),
        ("/v1/stats", Stats, own),
    ]
    application = Application(routes, default_handler_class=NotFound, log_function=lambda handler: None)
    return Listener(
        application,
        xheaders=False,
        idle_connection_timeout=IDLE_S,
        body_timeout=IDLE_S,
        max_body_size=MAX_BODY_BYTES,
    )
