"""What every test shares: one event loop a test, run by pytest-tornado."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import hypothesis
import pytest
from tornado.ioloop import IOLoop

from tests.engines.fixtures import (
    _chromium_process,
    _cluster_processes,
    _emulator_process,
    _pair_processes,
    _postgres_process,
    _redis_process,
    _sentinel_processes,
    _valkey_process,
    browser,
    postgres,
    pubsub_emulator,
    redis_cluster,
    redis_pair,
    redis_sentinels,
    redis_server,
    redis_tls,
    valkey,
)

__all__ = [
    "_chromium_process",
    "_cluster_processes",
    "_emulator_process",
    "_pair_processes",
    "_postgres_process",
    "_redis_process",
    "_sentinel_processes",
    "_valkey_process",
    "browser",
    "postgres",
    "pubsub_emulator",
    "redis_cluster",
    "redis_pair",
    "redis_sentinels",
    "redis_server",
    "redis_tls",
    "valkey",
]

# The same examples each time, and no deadline for one: what a machine has to do besides fails no test.
hypothesis.settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("tests")


@pytest.fixture
def io_loop() -> Iterator[IOLoop]:
    """A fresh loop for each test, in place of pytest-tornado's, which calls deprecated methods.

    A task that is still alive when the test is over is a leak, and fails it.
    """
    loop = IOLoop(make_current=False)
    asyncio_loop: asyncio.AbstractEventLoop = loop.asyncio_loop
    asyncio.set_event_loop(asyncio_loop)
    yield loop
    # What was cancelled in the very last turn ends in the next one, and its socket is let go then.
    for _ in range(3):
        loop.run_sync(lambda: asyncio.sleep(0))
    left = [task for task in asyncio.all_tasks(asyncio_loop) if not task.done()]
    for task in left:
        task.cancel()
    loop.run_sync(lambda: asyncio.gather(*left, return_exceptions=True))
    open_ends = _open_ends(asyncio_loop)
    asyncio.set_event_loop(None)
    loop.close(all_fds=False)
    assert not open_ends, f"connections outlived the test: {open_ends}"
    assert not left, f"tasks outlived the test: {left}"


def _open_ends(loop: asyncio.AbstractEventLoop) -> list[object]:
    """Connections that nobody closed; else the test in which they are collected fails, and not this one."""
    return [one for one in loop._transports.values() if not one.is_closing()]  # type: ignore[attr-defined]
