"""Stores on a real engine for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tornado.ioloop import IOLoop

from pushserver.core.metrics import Metrics
from pushserver.parts import Stores, build_stores
from tests.delivery.turned_loop import Loop
from tests.engines.redis_server import RedisServer
from tests.pod import settings


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    """In place of the running one."""
    return Loop(monkeypatch)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def stores(io_loop: IOLoop, redis_server: RedisServer, metrics: Metrics) -> Iterator[Stores]:
    """Stores of `pod-1` on an empty redis-server."""
    configured = settings(redis_server.url, pod={"lease_ms": 1500})
    built = build_stores(configured, redis_server.url, "pod-1", metrics)
    yield built
    io_loop.run_sync(built.close)
