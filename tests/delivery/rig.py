"""A whole pod without listeners, on a real engine: tests open connections on wires in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from pushserver.app import App, build
from pushserver.core.frames import Close, Event, Pong, Text
from pushserver.delivery.connection import Connection, State
from pushserver.delivery.session import Verified
from tests.delivery.wire import Wire
from tests.pod import eventually, settings
from tests.stores.looks import look
from tests.texts import to_users

__all__ = ["Line", "Rig", "close", "rig"]


class Line:
    """One connection with its wire, and what its client does."""

    def __init__(self, app: App, wire: Wire, connection: Connection) -> None:
        self._app = app
        self.wire = wire
        self.connection = connection

    def receive(self, *events: Event, frames: int | None = None) -> None:
        """The socket brings these events in one read."""
        self._app.sessions.received(self.connection, list(events), len(events) if frames is None else frames)

    def say(self, text: str) -> None:
        """The client sends a text."""
        self.receive(Text(text.encode()))

    def pong(self, payload: bytes | None = None) -> None:
        """The client answers the latest ping, or with another payload."""
        self.receive(Pong(self.wire.pings[-1] if payload is None else payload))

    def live_after_pong(self) -> bool:
        """The client answers the latest ping; whether the connection is live then."""
        self.pong()
        return self.connection.state is State.LIVE

    def end(self, code: int | None = None) -> None:
        """The socket is closed."""
        self._app.sessions.closed(self.connection, code)

    def leave(self, code: int | None = 1000) -> None:
        """The client says goodbye, and the socket is closed."""
        self.receive(Close(code, ""))
        self.end(code)

    async def live(self) -> None:
        """Wait until it is caught up."""
        await eventually(lambda: self.connection.state is State.LIVE)

    async def got(self, *ids: str) -> None:
        """Wait until just these messages were written, in this order."""
        await eventually(lambda: self.wire.ids == list(ids))


class Rig:
    """The parts of a pod that has its lease, with shortcuts."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.lines: list[Line] = []

    def open(
        self,
        user: str = "alice",
        *,
        ack: bool = False,
        ttl_s: float = 600,
        categories: Mapping[str, tuple[str, ...]] | None = None,
        wire: Wire | None = None,
        log_at: int = 0,
    ) -> Line:
        """Open a connection. `log_at` is the user's cursor."""
        wire = wire or Wire()
        expires = self.app.stores.clock.now_s() + ttl_s
        who = Verified(user, expires, expires, dict(categories or {}), log_at=log_at)
        sessions = self.app.sessions
        connection = sessions.open(who, client_ip="203.0.113.9", ack_mode=ack, transport=wire)
        self.app.tasks.spawn(sessions.serve(connection, who.categories_version), "serve connection")
        self.lines.append(Line(self.app, wire, connection))
        return self.lines[-1]

    async def live(self, user: str = "alice", **options: Any) -> Line:
        """Open a connection and wait until it is caught up."""
        line = self.open(user, **options)
        await line.live()
        return line

    async def send(self, user: str, *ids: str, content: Any = "hello", ttl_s: int = 3600) -> None:
        """Put messages into a user's inbox."""
        for message_id in ids:
            await self.app.publisher.publish(to_users([user], content, message_id, ttl_s))

    async def inbox(self, user: str = "alice") -> list[str]:
        """The ids that wait."""
        return (await self.app.stores.inbox.read(user, 100_000)).ids

    async def present(self, user: str = "alice") -> int | None:
        """The boot in this pod's presence field of the user; None if there is none."""
        return (await look(self.app.stores.presence, user)).boot

    async def indexed(self) -> set[str]:
        """Who stands in this pod's index."""
        return {user async for users in self.app.stores.presence.indexed(self.app.pod) for user in users}

    async def settled(self) -> None:
        """Wait until nothing that was confirmed waits to be settled."""
        await eventually(lambda: self.app.settler.waiting == 0)

    async def flushed(self) -> None:
        """Wait until presence is what the Manager says."""
        await eventually(lambda: self.app.presence.unflushed == 0)

    async def barrier(self) -> None:
        """Whatever could have been sent to Redis by now has been sent, and answered, unless it is held."""
        for _ in range(3):
            await self.app.stores.commands.call("PING")

    def counted(self, name: str, **labels: str) -> float:
        """The value of a metric, without the prefix."""
        return self.app.metrics.registry.get_sample_value(f"pushserver_{name}", labels) or 0.0


@asynccontextmanager
async def rig(redis_url: str, **sections: Mapping[str, Any]) -> AsyncIterator[Rig]:
    """A pod with a lease that does nothing by itself: no heartbeat, no wheel, no rescan, unless started."""
    configured = settings(redis_url, **{"inbox": {"rescan_s": 0}, **sections})
    app = build(configured, redis_url=redis_url)
    try:
        await app.lease.start()
        await app.outlet.start()
        yield Rig(app)
    finally:
        await close(app)


async def close(app: App) -> None:
    """Let go of everything, in the order of `Server.close`."""
    app.sessions.wheel.stop()
    app.sessions.reminders.stop()
    await app.tasks.close()
    await app.contents.close()
    await app.outlet.drain(asyncio.get_running_loop().time())
    await app.stores.close()
