"""A reader of streams on the engine that a test runs on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tornado.ioloop import IOLoop

from pushserver.stores.client import connect
from pushserver.stores.cluster import Cluster
from pushserver.stores.commands import Commands
from pushserver.stores.stream import StreamReader

__all__ = ["reader", "url_of"]

TIMEOUT_MS = 5000


def url_of(request: pytest.FixtureRequest, name: str) -> str:
    """Where the engine of that fixture is."""
    engine = request.getfixturevalue(name)
    return str(engine.connection_url if name == "valkey" else engine.url)


@pytest.fixture
def reader(request: pytest.FixtureRequest, io_loop: IOLoop, commands: Commands) -> Iterator[StreamReader]:
    """A reader beside `commands`, which is parametrized with a real engine."""
    url = url_of(request, request.node.callspec.params["commands"])
    client = connect(url, timeout_ms=TIMEOUT_MS, max_connections=2)
    if isinstance(client, Cluster):
        # Else the first read of a stream only finds out where it is.
        io_loop.run_sync(lambda: client.learn(()))
    built = StreamReader(client, timeout_s=TIMEOUT_MS / 1000)
    yield built
    io_loop.run_sync(built.close)
