"""Parts that settings shape."""

from __future__ import annotations

import asyncio
import time

import pytest

from pushserver.core.errors import StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.parts import build_stores
from tests.engines.redis_pair import RedisPair
from tests.pod import settings


@pytest.mark.gen_test
async def test_publishes_that_wait_for_a_replica_hold_up_nothing_else(redis_pair: RedisPair) -> None:
    """Not even with one connection for all else."""
    redis = {"max_connections": 1, "durability": "replica", "timeout_ms": 2000}
    stores = build_stores(settings(redis_pair.url, redis=redis), redis_pair.url, "pod-1", Metrics())
    redis_pair.replica.freeze()
    publish = asyncio.ensure_future(stores.commands.publish("boot_take", ["k"], [0]))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    assert await stores.commands.call("PING") == b"PONG"
    assert time.monotonic() - started < 1.5
    with pytest.raises(StoreUnavailableError) as failure:
        await publish
    assert failure.value.kind == "durability"
    await stores.close()
