"""What tests of the stores have in common."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pushserver.core.metrics import Metrics
from pushserver.stores.client import connect
from pushserver.stores.commands import Commands

__all__ = ["ENGINES", "REAL", "commands_of"]

REAL = ["valkey", "redis_server", "redis_cluster"]
"""Fixtures of the engines that are the real thing."""
ENGINES = ["fakeredis", *REAL]


@asynccontextmanager
async def commands_of(
    url: str, *, timeout_ms: int = 5000, metrics: Metrics | None = None, **options: Any
) -> AsyncIterator[Commands]:
    """Commands to the engine at `url`, closed at the end; `options` as of `Commands`."""
    client = connect(url, timeout_ms=timeout_ms, max_connections=8)
    commands = Commands(client, metrics or Metrics(), timeout_s=timeout_ms / 1000, **options)
    try:
        yield commands
    finally:
        await commands.close()
        await client.aclose()
