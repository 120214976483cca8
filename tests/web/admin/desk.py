"""An admin listener of its own, on a real socket, with a publisher and users that are told what to answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from tornado.netutil import bind_sockets

from pushserver.core.categories import Categories
from pushserver.core.metrics import Metrics
from pushserver.core.publication import Publication, Published
from pushserver.core.publish_request import PublishRules
from pushserver.web.admin import Admin, OwnPage, admin_server
from tests.raw_http import Answer, ask

__all__ = ["KEY", "MAX_CONTENT", "RULES", "Desk", "FakePublisher", "FakeUsers", "bearer", "desk"]

KEY = "an-api-key-of-the-tests"
RULES = PublishRules(max_users=10_000, ttl_s=600, max_ttl_s=3600)
MAX_CONTENT = 256 * 1024


class FakePublisher:
    """Takes every message, unless told otherwise for its id."""

    def __init__(self) -> None:
        self.asked: list[Publication] = []
        self.recalled: list[str] = []
        self.answers: dict[str, Published | Exception] = {}
        """What becomes of a message, by id."""
        self.known = {"known"}
        self.trouble: Exception | None = None
        self.open = asyncio.Event()
        """While it is cleared, a publish that was asked for is not answered."""
        self.open.set()
        self._numbers = count(1)

    def new_id(self) -> str:
        return f"new-{next(self._numbers)}"

    async def publish(self, publication: Publication) -> Published:
        self.asked.append(publication)
        await self.open.wait()
        told = self.trouble or self.answers.get(publication.id)
        if isinstance(told, Exception):
            raise told
        users = None if publication.categories is not None else len(publication.users)
        return told or Published(publication.id, users=users, online=users and 0)

    async def recall(self, message_id: str) -> bool:
        self.recalled.append(message_id)
        if self.trouble is not None:
            raise self.trouble
        return message_id in self.known


class FakeUsers:
    """Notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.trouble: Exception | None = None
        self.parked_ids = {"poison"}

    def _note(self, *call: Any) -> None:
        self.asked.append(call)
        if self.trouble is not None:
            raise self.trouble

    async def describe(self, user: str) -> dict[str, Any]:
        self._note("describe", user)
        return {"user": user}

    async def inbox(self, user: str) -> list[str]:
        self._note("inbox", user)
        return ["older", "newer"]

    async def parked(self, user: str) -> list[str]:
        self._note("parked", user)
        return sorted(self.parked_ids)

    async def put_back(self, user: str, message_id: str) -> bool:
        self._note("put_back", user, message_id)
        return message_id in self.parked_ids

    async def set_categories(self, user: str, categories: Categories) -> list[str]:
        self._note("set_categories", user, dict(categories))
        return ["pod-1"]

    async def disconnect(self, user: str) -> list[str]:
        self._note("disconnect", user)
        return ["pod-1", "pod-2"]

    async def erase(self, user: str) -> list[str]:
        self._note("erase", user)
        return []

    async def pods(self) -> list[dict[str, Any]]:
        self._note("pods")
        about = {"host": "h", "address": "127.0.0.1:8000", "version": "0.1", "started": 1}
        about |= {"expires": 2, "lease_left_ms": -1}
        return [{"pod": "pod-1", "boot": 7, **about, "alive": True}]

    async def exposures(self) -> dict[str, Any]:
        self._note("exposures")
        return {"sink": "stream", "waiting": 3, "max": 100}


class FakeCensus:
    """Counts as it was told."""

    async def categories(self) -> list[dict[str, Any]]:
        return [{"kind": "vip", "values": 1, "top": [{"value": "3", "connections": 2}]}]


class FakeExplainer:
    """Knows one message."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def explain(self, message_id: str, user: str = "") -> dict[str, Any] | None:
        self.asked.append((message_id, user))
        if message_id != "known":
            return None
        times = dict.fromkeys(("queued_at", "accepted_at", "expires_at", "recalled_at"), 1)
        told = {"kind": "users", "state": "accepted", "why": "so", "users": 1, "erased": 0, "log": None}
        on = [{"pod": "pod-1", "connection": None}]
        way = {"user": user, "state": "waiting", "why": "so", "at": None, "online": True, "connections": on}
        return {"id": message_id, **told, **times, **({"user": way} if user else {})}


class Desk:
    """The listener and what is behind it."""

    def __init__(
        self, keys: Sequence[str], rules: PublishRules, max_content_bytes: int, origins: Sequence[str]
    ) -> None:
        self.reason = ""
        self.publisher = FakePublisher()
        self.users = FakeUsers()
        self.explainer = FakeExplainer()
        self.metrics = Metrics()
        self.admin = Admin(
            metrics=self.metrics,
            api_keys=keys,
            publisher=self.publisher,
            users=self.users,
            explainer=self.explainer,
            rules=rules,
            max_content_bytes=max_content_bytes,
            describe_pod=lambda: {"pod": "pod-1"},
            census=FakeCensus(),
            describe_exposures=self.users.exposures,
            own_page=OwnPage(origins),
            ready=lambda: self.reason,
        )
        self.server = admin_server(self.admin)
        (sock,) = bind_sockets(0, "127.0.0.1")
        self.server.add_sockets([sock])
        self.port: int = sock.getsockname()[1]

    async def get(self, path: str, *headers: tuple[str, str], host: str = "127.0.0.1", **more: Any) -> Answer:
        """A request as the test says, with a GET as its method if it says none."""
        return await ask(self.port, [("Host", host), *headers], path=path, **more)

    async def send(
        self,
        method: str,
        path: str,
        body: Any = b"",
        *headers: tuple[str, str],
        kind: str = "application/json",
    ) -> Answer:
        """A request with a body; what is not bytes becomes JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        about = [("Content-Length", str(len(data))), ("Content-Type", kind)] if data else []
        return await self.get(path, *about, *headers, method=method, body=data)

    async def publish(self, body: Any) -> Answer:
        """`POST /v1/messages`."""
        return await self.send("POST", "/v1/messages", body)

    def counted(self, name: str, **labels: str) -> float:
        """The value of a counter."""
        value = self.metrics.registry.get_sample_value(f"pushserver_{name}_total", labels)
        return value or 0.0

    def results(self) -> Mapping[str, float]:
        """How many messages had which result."""
        (family,) = (one for one in self.metrics.registry.collect() if one.name == "pushserver_publishes")
        return {one.labels["result"]: one.value for one in family.samples if one.name.endswith("_total")}


@asynccontextmanager
async def desk(
    *keys: str,
    rules: PublishRules = RULES,
    max_content_bytes: int = MAX_CONTENT,
    origins: Sequence[str] = (),
) -> AsyncIterator[Desk]:
    """A listener from its start to its end."""
    one = Desk(keys, rules, max_content_bytes, origins)
    try:
        yield one
    finally:
        one.publisher.open.set()
        one.server.stop()
        await one.server.close_all_connections()


def bearer(key: str = KEY) -> tuple[str, str]:
    """The header with an API key."""
    return "Authorization", f"Bearer {key}"
