"""What the process says of errors that nobody awaited, and of an engine that it cannot serve on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from pushserver import server
from pushserver.app import App
from pushserver.core.errors import ConfigError, StoreRefusedError, StoreUnavailableError
from pushserver.server import tell_stray
from tests.engines.redis_cluster import RedisCluster
from tests.engines.redis_server import RedisServer
from tests.engines.redis_tls import PASSWORD, RedisTls
from tests.gate import refuse
from tests.pod import eventually, running_pod, settings


async def told(future: asyncio.Future[Any], caplog: pytest.LogCaptureFixture) -> tuple[list[str], list[str]]:
    """The events of our own and the lines of asyncio for a future whose error nobody saw."""
    loop = asyncio.get_running_loop()
    with capture_logs() as ours:
        tell_stray(loop, {"message": "never retrieved", "exception": future.exception(), "future": future})
    theirs = [record.message for record in caplog.records if record.name == "asyncio"]
    return [line["event"] for line in ours], theirs


@pytest.mark.gen_test
async def test_the_end_of_a_connection_that_nobody_awaited_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(BrokenPipeError(32, "Broken pipe"))
    assert await told(future, caplog) == (["connection.stray_error"], [])


@pytest.mark.gen_test
async def test_any_other_error_that_nobody_awaited_is_reported_by_asyncio(
    caplog: pytest.LogCaptureFixture,
) -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(ValueError("a fault of the program"))
    assert await told(future, caplog) == ([], ["never retrieved\nfuture: " + repr(future)])


@pytest.mark.gen_test
async def test_a_task_of_ours_that_broke_is_reported_by_asyncio(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks() -> None:
        raise ConnectionResetError

    task = asyncio.ensure_future(breaks())
    await asyncio.wait([task])
    ours, theirs = await told(task, caplog)
    assert (ours, len(theirs)) == ([], 1)


@pytest.mark.gen_test
async def test_a_pod_starts_on_an_engine_that_it_trusts_and_says_why_on_no_other(
    redis_tls: RedisTls, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_pod(settings(f"{redis_tls.url}?ssl_ca_certs={redis_tls.authority}")) as pod:
        assert pod.app.not_ready() == ""
    monkeypatch.setattr(server, "START_S", 1.0)
    with pytest.raises(StoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED") as failure:
        async with running_pod(settings(f"{redis_tls.url}?ssl_ca_certs={redis_tls.stranger}")):
            pass
    out, err = capsys.readouterr()
    assert PASSWORD not in f"{failure.value!r}{failure.value}{out}{err}"


@pytest.mark.parametrize(
    "user, database, why",
    [("nobody:wr0ng-s3cret@", "", "auth: "), ("", "/99", "error: .*DB index is out of range")],
)
@pytest.mark.gen_test
async def test_a_pod_does_not_wait_for_an_engine_that_refuses_it_for_good(
    redis_server: RedisServer, user: str, database: str, why: str
) -> None:
    wrong = redis_server.url.replace("://", f"://{user}") + database
    with capture_logs() as logs, pytest.raises(StoreRefusedError, match=why) as failure:
        async with running_pod(settings(wrong)):
            pass
    assert "redis.awaited" not in [line["event"] for line in logs]
    assert "wr0ng-s3cret" not in f"{failure.value!r}{failure.value}{logs}"


@pytest.mark.gen_test
async def test_a_pod_does_not_start_on_an_engine_that_cannot_be_as_durable_as_it_is_told(
    redis_server: RedisServer,
) -> None:
    with redis_server.client() as redis:
        redis.config_set("appendonly", "no")
        try:
            with pytest.raises(ConfigError, match=r"redis\.durability: fsync needs"):
                async with running_pod(settings(redis_server.url, redis={"durability": "fsync"})):
                    pass
        finally:
            redis.config_set("appendonly", "yes")


@pytest.mark.parametrize("step", ["boot_take", "lease_take", "pods_index", "feed_open", "HSCAN", "EXISTS"])
@pytest.mark.gen_test
async def test_a_start_tries_again_what_redis_did_not_answer(redis_server: RedisServer, step: str) -> None:
    """Lease, feed, presence, log: each is carried out, and its answer is lost once."""

    def prepare(app: App) -> None:
        refuse(app.stores.commands, step, times=1, answers=True)

    with capture_logs() as logs:
        async with running_pod(settings(redis_server.url), prepare=prepare) as pod:
            assert pod.app.not_ready() == ""
            await (await pod.connect("alice")).until("live")
    assert [line["reason"] for line in logs if line["event"] == "redis.awaited"] == ["timeout"]


@pytest.mark.gen_test
async def test_a_start_waits_for_every_node_of_a_cluster(redis_cluster: RedisCluster) -> None:
    redis_cluster.nodes[1].freeze()

    async def thaw() -> None:
        await eventually(lambda: any(line["event"] == "redis.awaited" for line in logs))
        redis_cluster.thaw()

    with capture_logs() as logs:
        thawing = asyncio.ensure_future(thaw())
        async with running_pod(settings(redis_cluster.url, redis={"timeout_ms": 500})) as pod:
            assert pod.app.not_ready() == ""
        await thawing
