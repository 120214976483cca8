"""One contract over every engine that is supported: `commands` is the way to each of them in turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from pushserver.core.metrics import Metrics
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from pushserver.stores.keys import Keys
from tests.engines.fake_redis import FakeRedis
from tests.stores.engines import ENGINES

TIMEOUT_MS = 5000


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(params=ENGINES)
def commands(request: pytest.FixtureRequest, io_loop: IOLoop, metrics: Metrics) -> Iterator[Commands]:
    """Commands to an engine that is empty; parametrized with `REAL` (indirect), to a real one."""
    if request.param == "fakeredis":
        client: Any = FakeRedis()  # which looks like a client
    else:
        engine = request.getfixturevalue(request.param)
        url = engine.connection_url if request.param == "valkey" else engine.url
        client = connect(url, timeout_ms=TIMEOUT_MS, max_connections=8)
    commands = Commands(client, metrics, timeout_s=TIMEOUT_MS / 1000)
    yield commands
    io_loop.run_sync(commands.close)
    io_loop.run_sync(client.aclose)


@pytest.fixture
def keys() -> Keys:
    return Keys("ps:")
