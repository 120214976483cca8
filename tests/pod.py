"""A whole pod on the test's own loop, on a real engine; nothing of it is replaced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pushserver.app import App, build
from pushserver.config import Settings
from pushserver.core.context import Handler
from pushserver.server import Server
from pushserver.web.tokens import make_token
from tests.client import Client, connect
from tests.gate import silence
from tests.texts import to_users

__all__ = ["SECRET", "Pod", "eventually", "running_pod", "settings"]

SECRET = "a secret of the tests, long enough for HS256"


def settings(redis_url: str, **sections: Mapping[str, Any]) -> Settings:
    """Settings for a pod on `redis_url`, quick to leave; `sections` overrides any."""
    given: dict[str, dict[str, Any]] = {
        "server": {"port": 0},
        "admin": {"port": 0},
        "pod": {"name": "pod-1"},
        "redis": {"url": redis_url},
        "auth": {"secret": SECRET},
        "drain": {"spread_s": 0.1, "timeout_s": 5},
    }
    for name, values in sections.items():
        given.setdefault(name, {}).update(values)
    return Settings.model_validate(given)


class Pod:
    """A running pod with shortcuts for what tests do with it."""

    def __init__(self, app: App, server: Server) -> None:
        self.app = app
        self.server = server
        self.killed = False
        self._clients: list[Client] = []

    def token(self, user: str, ttl_s: float = 600, **claims: Any) -> str:
        """A token that this pod believes."""
        return make_token(SECRET.encode(), user, ttl_s, time.time(), claims.get("categories"))

    async def connect(self, user: str, **options: Any) -> Client:
        """Connect as `user`; `options` as of `tests.client.connect`, and `ttl_s` of the token."""
        ttl_s = options.pop("ttl_s", 600)
        self._clients.append(await connect(self.server.port, self.token(user, ttl_s), **options))
        return self._clients[-1]

    async def send(self, user: str, content: Any, message_id: str = "", ttl_s: int = 3600) -> str:
        """Put a message into the user's inbox; its id."""
        message_id = message_id or self.app.publisher.new_id()
        await self.app.publisher.publish(to_users([user], content, message_id, ttl_s))
        return message_id

    async def inbox(self, user: str) -> list[str]:
        """The ids that wait."""
        return (await self.app.stores.inbox.read(user, 100_000)).ids

    async def kill(self) -> None:
        """End it as `kill -9` would, as far as Redis sees: nothing more of it is sent there."""
        self.killed = True
        silence(self.app.stores.commands)
        await self.server.close()

    def put_away(self) -> None:
        """Reset what clients have left open."""
        for client in self._clients:
            client.vanish()


@asynccontextmanager
async def running_pod(
    configured: Settings, *, links: Sequence[Handler] = (), prepare: Callable[[App], None] | None = None
) -> AsyncIterator[Pod]:
    """A pod from its start to an orderly end. `prepare` may put hooks into it before it starts."""
    app = build(configured, redis_url=configured.redis.url.get_secret_value(), links=links)
    if prepare is not None:
        prepare(app)
    server = Server(app)
    pod = Pod(app, server)
    try:
        await server.start()
        yield pod
        pod.put_away()
        if not pod.killed:
            await server.drain()
    finally:
        pod.put_away()
        await server.close()


async def eventually(condition: Callable[[], Any], within_s: float = 20.0) -> Any:
    """Wait until `condition` (plain or async) is true; its value. Fails the test after `within_s`."""
    give_up = time.monotonic() + within_s
    while True:
        value = condition()
        if asyncio.iscoroutine(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < give_up, f"not true within {within_s} s: {condition}"
        await asyncio.sleep(0.01)
