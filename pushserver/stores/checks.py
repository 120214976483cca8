"""What is looked at before a pod serves on a Redis."""

from __future__ import annotations

import re
from typing import Any

import structlog

from pushserver.core.errors import ConfigError
from pushserver.core.metrics import Metrics
from pushserver.stores.commands import Commands

__all__ = ["check_engine"]

log = structlog.get_logger(__name__)

OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (7, 2)


async def check_engine(commands: Commands, metrics: Metrics) -> None:
    """Refuse an engine that would lose messages: too old, or one that evicts keys when it is full.

    No append-only file is a warning and a metric. Of a cluster, every node is looked at. Raises
    `ConfigError` or `StoreError`.
    """
    nodes = [_fields(answer) for answer in await commands.on_each_node("INFO")]
    for info in nodes:
        _check_version(info)
        _check_policy(info)
    aof = all(info.get("aof_enabled") == "1" for info in nodes)
    metrics.redis_aof.set(aof)
    if not aof:
        log.warning("redis.no_aof", meaning="messages that wait are lost when Redis restarts")


def _check_version(info: dict[str, str]) -> None:
    name, oldest = ("valkey", OLDEST_VALKEY) if "valkey_version" in info else ("redis", OLDEST_REDIS)
    text = info.get(f"{name}_version", "0.0")
    version = tuple(int(part) for part in re.findall(r"\d+", text)[:2])
    if version < oldest:
        needed = ".".join(map(str, oldest))
        raise ConfigError("redis.url", f"{name} {text} is too old; {needed} or newer is needed")


def _check_policy(info: dict[str, str]) -> None:
    policy = info.get("maxmemory_policy", "")
    if policy and policy != "noeviction":
        raise ConfigError("redis.url", f"maxmemory-policy is {policy}; only noeviction keeps messages")


def _fields(answer: Any) -> dict[str, str]:
    lines = answer.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
