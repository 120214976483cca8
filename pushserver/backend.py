"""For back ends and commands: publishing, and asking about users, without running a pod.

async with open_publisher("redis://redis:6379") as publisher:
    await publisher.send({"text": "hello"}, users=["alice"])
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pushserver.config import Settings
from pushserver.core.categories import NO_CATEGORIES
from pushserver.core.errors import InvalidFieldError
from pushserver.core.jsontext import dump
from pushserver.core.metrics import Metrics
from pushserver.core.names import check_message_id, check_username
from pushserver.core.publication import Publication, Published
from pushserver.core.publish_request import target_categories
from pushserver.delivery.explain import Explainer
from pushserver.delivery.feeds import Feeds
from pushserver.delivery.publish import Publisher
from pushserver.delivery.tasks import Tasks
from pushserver.delivery.users import Users
from pushserver.development import DATA_DIRECTORY
from pushserver.parts import Stores, build_explainer, build_publisher, build_stores, build_users
from pushserver.stores.embedded import EmbeddedValkey, embedded_url

__all__ = ["Backend", "BackendPublisher", "open_backend", "open_publisher"]


@dataclass(slots=True)
class Backend:
    """What a process that is no pod has of one."""

    settings: Settings
    metrics: Metrics
    stores: Stores
    feeds: Feeds
    publisher: Publisher
    users: Users
    explainer: Explainer

    @property
    def evicted(self) -> float:
        """Messages that the caps of inboxes evicted so far."""
        return self.metrics.registry.get_sample_value("pushserver_evicted_total") or 0.0


class BackendPublisher:
    """Publishes messages and recalls them."""

    def __init__(self, backend: Backend) -> None:
        self._publisher = backend.publisher
        self._content = backend.settings.content

    async def send(
        self,
        content: Any,
        *,
        users: Sequence[str] = (),
        categories: Mapping[str, Sequence[str]] | None = None,
        everyone: bool = False,
        message_id: str = "",
        ttl_s: int | None = None,
        offline: bool = True,
    ) -> Published:
        """Publish to users, to whoever is in all of these categories (any of the values of each), or to all.

        `content` is anything that JSON holds. Repeating a `message_id` completes what an earlier call began
        and reaches nobody twice. Raises `InvalidNameError` or `InvalidFieldError` for what is wrong,
        `IdReusedError`, `RecalledError`, and `StoreError` if it is not stored as durably as asked.
        """
        if (bool(users), bool(categories), everyone).count(True) != 1:
            raise InvalidFieldError("to", "must be users, categories or everyone")
        if ttl_s is not None and not 0 < ttl_s <= self._content.max_ttl_s:
            raise InvalidFieldError("ttl", f"must be 1 to {self._content.max_ttl_s} seconds")
        try:
            text = dump(content)
        except ValueError as error:
            raise InvalidFieldError("content", str(error)) from None
        given = {kind: list(values) for kind, values in (categories or {}).items()}
        target = target_categories(given, "categories") if given else NO_CATEGORIES
        return await self._publisher.publish(
            Publication(
                id=check_message_id(message_id) if message_id else self._publisher.new_id(),
                content=text,
                ttl_s=ttl_s or self._content.ttl_s,
                users=tuple(dict.fromkeys(map(check_username, users))),
                categories=None if users else target,
                offline=offline,
                id_is_new=not message_id,
            )
        )

    async def recall(self, message_id: str) -> bool:
        """Take back what is not delivered yet, on every pod; False if no such message is known."""
        return await self._publisher.recall(check_message_id(message_id))


@asynccontextmanager
async def open_publisher(redis_url: str, **sections: Mapping[str, Any]) -> AsyncIterator[BackendPublisher]:
    """A publisher on the Redis of the pods; `sections` are further settings, as the pods have them.

    Their `redis.prefix`, `inbox`, `publish`, `content` and `log` have to be the same.
    """
    redis = {**sections.pop("redis", {}), "url": redis_url}
    async with open_backend(Settings.model_validate({**sections, "redis": redis})) as backend:
        yield BackendPublisher(backend)


@asynccontextmanager
async def open_backend(settings: Settings) -> AsyncIterator[Backend]:
    """Stores and a publisher; in development mode on the embedded engine, started if no pod runs it."""
    engine = EmbeddedValkey(DATA_DIRECTORY / "valkey") if settings.development else None
    if engine is not None:
        engine.start()
    try:
        url = embedded_url(DATA_DIRECTORY / "valkey") if engine else settings.redis.url.get_secret_value()
        async with _opened(settings, url) as backend:
            yield backend
    finally:
        if engine is not None:
            engine.stop()


@asynccontextmanager
async def _opened(settings: Settings, redis_url: str) -> AsyncIterator[Backend]:
    metrics = Metrics()
    stores = build_stores(settings, redis_url, "backend", metrics)
    tasks = Tasks(metrics)
    feeds = Feeds(stores.feeds, stores.presence, metrics, tasks)
    try:
        await stores.commands.learn_nodes()
        stores.clock.adjust(await stores.leases.now_ms())
        publisher = build_publisher(settings, stores, feeds, metrics)
        users = build_users(settings, stores, feeds, None)
        explainer = build_explainer(settings, stores, feeds)
        yield Backend(settings, metrics, stores, feeds, publisher, users, explainer)
    finally:
        await tasks.close()
        await stores.close()
