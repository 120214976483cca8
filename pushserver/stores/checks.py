"""What is looked at before a pod serves on a Redis."""

from __future__ import annotations

import re
from typing import Any

import structlog

from pushserver.core.errors import ConfigError
from pushserver.core.metrics import Metrics
from pushserver.stores.commands import Commands
from pushserver.stores.seal import Durability

__all__ = ["check_engine"]

log = structlog.get_logger(__name__)

OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (7, 2)
OLDEST_WAITAOF = (7, 2)
"""Of either."""


async def check_engine(commands: Commands, metrics: Metrics, durability: Durability) -> None:
    """Refuse an engine that would lose messages: too old, or one that evicts keys when it is full.

    So is one that can never be as durable as is asked for. No append-only file is a warning and a metric,
    no replica to wait for is a warning. Of a cluster, every node is looked at. Raises `ConfigError` or
    `StoreError`.
    """
    nodes = [_fields(answer) for answer in await commands.on_each_node("INFO")]
    for info in nodes:
        _check_version(info)
        _check_policy(info)
        if durability == "fsync":
            _check_fsync(info)
    if durability == "replica" and not all(_has_replica(info) for info in nodes):
        log.warning("redis.no_replica", meaning="publishes are answered 503 until a replica is connected")
    aof = all(_has_aof(info) for info in nodes)
    metrics.redis_aof.set(aof)
    if not aof:
        log.warning("redis.no_aof", meaning="messages that wait are lost when Redis restarts")


def _check_version(info: dict[str, str]) -> None:
    name, text, version = _version(info)
    oldest = OLDEST_VALKEY if name == "valkey" else OLDEST_REDIS
    if version < oldest:
        needed = ".".join(map(str, oldest))
        raise ConfigError("redis.url", f"{name} {text} is too old; {needed} or newer is needed")


def _version(info: dict[str, str]) -> tuple[str, str, tuple[int, ...]]:
    name = "valkey" if "valkey_version" in info else "redis"
    text = info.get(f"{name}_version", "0.0")
    return name, text, tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _check_fsync(info: dict[str, str]) -> None:
    name, text, version = _version(info)
    if version < OLDEST_WAITAOF:
        needed = ".".join(map(str, OLDEST_WAITAOF))
        raise ConfigError("redis.durability", f"fsync needs {name} {needed} or newer, this is {text}")
    if not _has_aof(info):
        raise ConfigError("redis.durability", "fsync needs an append-only file (appendonly yes)")


def _has_aof(info: dict[str, str]) -> bool:
    return info.get("aof_enabled") == "1"


def _has_replica(info: dict[str, str]) -> bool:
    return info.get("connected_slaves", "0") != "0"


def _check_policy(info: dict[str, str]) -> None:
    policy = info.get("maxmemory_policy", "")
    if policy and policy != "noeviction":
        raise ConfigError("redis.url", f"maxmemory-policy is {policy}; only noeviction keeps messages")


def _fields(answer: Any) -> dict[str, str]:
    lines = answer.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
