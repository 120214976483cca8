"""The listener for clients and all that is behind it, without Redis.

Categories come from the token, everybody is new to the log, and presence stays unflushed: a client gets its
101 and `welcome`, and what it sends is answered, but it does not go live.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tornado.netutil import bind_sockets

from pushserver.app import App, build
from pushserver.core.context import Handler
from pushserver.web.front import Front
from pushserver.web.server import public_server
from pushserver.web.tls import load_certificate
from pushserver.web.tokens import make_token
from tests.client import Client, Refused, connect
from tests.pod import SECRET, eventually, settings
from tests.raw_http import Answer, Headers, ask, handshake

__all__ = ["Doorway", "doorway"]

NOWHERE = "redis://127.0.0.1:1"


class Doorway:
    """An open door. Clients that came through it are closed with it."""

    def __init__(self, app: App, server: Front, port: int) -> None:
        self.app = app
        self.server = server
        self.port = port
        self.clients: list[Client] = []

    def leave(self) -> None:
        """All clients vanish. Twice is once."""
        for client in self.clients:
            client.vanish()

    @property
    def inside(self) -> int:
        """How many sockets the limits count."""
        return self.app.door.admission.inside

    def token(self, user: str = "alice", **claims: Any) -> str:
        """A token that is believed."""
        return make_token(
            SECRET.encode(), user, claims.pop("ttl_s", 600), time.time(), claims.get("categories")
        )

    async def connect(self, user: str = "alice", **options: Any) -> Client:
        """Come in as `user` and read the welcome; options as of `tests.client.connect`."""
        token = options.pop("token", self.token(user))
        client = await connect(self.port, token, **options)
        self.clients.append(client)
        await client.until("welcome")
        return client

    async def refusal(self, token: str | None = None, **options: Any) -> Refused:
        """The answer to a handshake that is refused; without `token` one of alice's."""
        try:
            client = await connect(self.port, self.token() if token is None else token, **options)
        except Refused as refused:
            return refused
        client.vanish()
        raise AssertionError("the handshake was not refused")

    async def ask(self, *more: tuple[str, str], path: str = "/ws", **changed: str | None) -> Answer:
        """The answer to alice's handshake with other headers, see `raw_http.handshake`."""
        headers: Headers = handshake(*more, **{"token": self.token(), **changed})  # type: ignore[arg-type]
        return await ask(self.port, headers, path=path)

    def handshakes(self, result: str) -> float:
        """How many handshakes ended so."""
        value = self.app.metrics.registry.get_sample_value("pushserver_handshakes_total", {"result": result})
        return value or 0.0


async def _stands_there(user: str, position: int) -> int:
    """Everybody is new to the log."""
    return position


@asynccontextmanager
async def doorway(
    *, links: Sequence[Handler] = (), prepare: Callable[[App], None] | None = None, **sections: Any
) -> AsyncIterator[Doorway]:
    """Open the door; at the end nobody may be inside any more. `sections` are settings."""
    defaults = {"categories": {"source": "claims"}, "exposure": {"sink": "none"}}
    configured = settings(NOWHERE, **{**defaults, **sections})
    app = build(configured, redis_url=NOWHERE, links=links)
    app.stores.cursors.start = _stands_there  # without it nobody comes in
    if prepare is not None:
        prepare(app)
    own = configured.server
    server = public_server(app.door, load_certificate(own.certfile, own.keyfile))
    (sock,) = bind_sockets(0, "127.0.0.1")
    server.add_sockets([sock])
    door = Doorway(app, server, sock.getsockname()[1])
    try:
        yield door
        door.leave()
        await eventually(lambda: door.inside == 0)
        assert not app.door.admission._by_address
    finally:
        door.leave()
        server.stop()
        app.drain.cut()
        await app.tasks.close()
        await app.contents.close()
        await server.close_all_connections()
        await app.disconnect()
