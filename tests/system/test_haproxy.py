"""Behind HAProxy, by the shipped conf/haproxy.cfg."""

from __future__ import annotations

from typing import cast

import pytest

from tests.client import Refused
from tests.engines.engine import Engine
from tests.engines.haproxy import HAProxy
from tests.engines.web_proxy import proxy_program
from tests.pod import eventually
from tests.pod_process import PodProcess
from tests.system.proxied import FORGED, proxied

pytestmark = pytest.mark.system


@pytest.mark.gen_test(timeout=60)
async def test_a_user_is_led_to_one_pod_and_no_token_is_in_the_log(any_engine: Engine) -> None:
    """By `user`, else by the cookie, else by the address; known by their own address, and to nobody else."""
    proxy_program("haproxy")
    async with proxied(any_engine, HAProxy) as on:
        proxy = cast(HAProxy, on.proxy)
        assert "WARNING" not in proxy.check()
        users = [f"user-{number}" for number in range(12)]
        first = [await on.pod_of(user) for user in users]
        assert set(first) == {"pod-1", "pod-2"}
        assert [await on.pod_of(user, refresh=True) for user in users] == first
        assert [await on.pod_of("alice", path="/ws", cookie=user) for user in users] == first
        assert len({await on.pod_of(user, path="/ws") for user in users}) == 1
        assert await on.address_of("alice", address="127.0.0.77", headers=FORGED) == "127.0.0.77"
        for path in ("/", "/readyz", "/metrics", "/v1/stats", "/ws/"):
            with pytest.raises(Refused) as refused:
                await on.connect("alice", path=path)
            assert refused.value.status == 404, path
        assert b"export class Client" in await proxy.get("/pushserver.js")
        long = proxy.token("alice", categories={"vip": ["x" * 120] * 48})
        carriers = (
            {"token": long, "headers": [("Cookie", f"pushserver_token={long}")]},
            {"token": "", "protocols": ["pushserver.v1", f"bearer.{long}"]},
            {"token": "", "path": f"/ws?token={long}"},
        )
        for options in carriers:
            client = await on.connect("alice", **options)
            await client.until("welcome")
            await client.close()
        for pod in on.pods.all:
            pod.kill()
        for options in carriers:
            with pytest.raises(Refused) as refused:
                await on.connect("alice", **options)
            assert refused.value.status == 503
        written = await eventually(lambda: proxy.said().count("GET /ws 503 ") == 3 and proxy.said())
        assert written.count("GET /ws 101 ") > 40
        for part in (long[:30], long[-30:], "token="):
            assert part not in written


@pytest.mark.gen_test(timeout=60)
async def test_users_of_a_pod_that_is_killed_move_on_and_lose_nothing(any_engine: Engine) -> None:
    """Those who come back before a health check has failed, too."""
    proxy_program("haproxy")
    async with proxied(any_engine, HAProxy) as on:
        await on.users_move_on(PodProcess.kill)


@pytest.mark.gen_test(timeout=60)
async def test_users_of_a_pod_that_is_leaving_move_on_while_it_does(any_engine: Engine) -> None:
    proxy_program("haproxy")
    async with proxied(any_engine, HAProxy) as on:
        pod = await on.users_move_on(PodProcess.terminate)
        assert {line["status"] for line in pod.events("handshake.refused")} == {503}, "it was gone already"
