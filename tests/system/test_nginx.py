"""Behind nginx, by the shipped conf/nginx.conf: each user to one pod, nothing lost, nothing told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from tests.client import Refused
from tests.engines.engine import Engine
from tests.engines.nginx import Nginx
from tests.engines.web_proxy import proxy_program
from tests.pod import eventually
from tests.pod_process import PodProcess
from tests.raw_http import head
from tests.system.proxied import FORGED, Proxied, proxied
from tests.system.stage import together

pytestmark = pytest.mark.system


@asynccontextmanager
async def behind_nginx(engine: Engine) -> AsyncIterator[Proxied]:
    """Two pods behind nginx."""
    proxy_program("nginx")
    async with proxied(engine, Nginx) as on:
        yield on


@pytest.mark.gen_test(timeout=60)
async def test_a_user_is_led_to_one_pod_and_known_by_their_own_address(any_engine: Engine) -> None:
    """By `user`, else by the cookie, else by the address; whatever the client says of its address."""
    async with behind_nginx(any_engine) as on:
        users = [f"user-{number}" for number in range(12)]
        first = [await on.pod_of(user) for user in users]
        assert set(first) == {"pod-1", "pod-2"}
        assert [await on.pod_of(user, refresh=True) for user in users] == first
        cookies = [await on.pod_of("alice", path="/ws", cookie=user) for user in users]
        assert cookies == first, "the cookie leads where the query does"
        by_address = {await on.pod_of(user, path="/ws") for user in users}
        assert len(by_address) == 1
        assert await on.address_of("alice", address="127.0.0.77", headers=FORGED) == "127.0.0.77"


@pytest.mark.gen_test(timeout=60)
async def test_no_token_is_in_what_nginx_writes_and_only_what_clients_need_is_there(
    any_engine: Engine,
) -> None:
    """However it is carried, however long it is, and whatever goes wrong with its request."""
    async with behind_nginx(any_engine) as on:
        token = on.proxy.token("alice", categories={"vip": ["x" * 1000]})
        long = on.proxy.token("alice", categories={"vip": ["x" * 120] * 48})
        assert 8000 < len(long) <= 8192
        for options in (
            {"token": token},
            {"token": long, "headers": [("Cookie", f"pushserver_token={long}")]},
            {"token": "", "protocols": ["pushserver.v1", f"bearer.{token}"]},
            {"token": "", "path": f"/ws?token={token}"},
        ):
            client = await on.connect("alice", **options)
            await client.until("welcome")
            await client.close()
        await eventually(lambda: on.proxy.said().count('"GET /ws" 101 ') == 4)
        wrong = token[:-4] + "AAAA"
        for path in (f"/ws?token={wrong}", f"/wss?token={token}", f"/ws?token={token}&user=bob"):
            with pytest.raises(Refused):
                await on.connect("alice", token="", path=path)
        for path in ("/", "/readyz", "/metrics", "/v1/stats", "/v1/messages", "/ws/", "/ws/../v1/stats"):
            with pytest.raises(Refused) as refused:
                await on.connect("alice", path=path)
            assert refused.value.status == 404, path
        assert b"export class Client" in await on.proxy.get("/pushserver.js")
        reader, writer = await asyncio.open_connection("127.0.0.1", on.proxy.port)
        writer.write(head([("Host", "127.0.0.1")], path=f"/ws?token={token}"))
        assert (await reader.readline()).split()[1] == b"400", "without TLS there is nothing"
        writer.close()
        for pod in on.pods.all:
            pod.kill()
        with pytest.raises(Refused) as refused:
            await on.connect("alice", token="", path=f"/ws?token={token}")
        assert refused.value.status == 502
        written = await eventually(lambda: '"GET /ws" 502 ' in on.proxy.said() and on.proxy.said())
        for secret in (token, long, wrong):
            for part in (secret[:30], secret[-30:], secret[60:90]):
                assert part not in written
        assert "token=" not in written


@pytest.mark.gen_test(timeout=60)
async def test_users_of_a_pod_that_is_killed_move_on_and_lose_nothing(any_engine: Engine) -> None:
    async with behind_nginx(any_engine) as on:
        await on.users_move_on(PodProcess.kill)


@pytest.mark.gen_test(timeout=60)
async def test_users_of_a_pod_that_is_leaving_move_on_while_it_does(any_engine: Engine) -> None:
    """It is there for seconds yet and answers 503: each handshake is passed on to the other at once."""
    async with behind_nginx(any_engine) as on:
        pod = await on.users_move_on(PodProcess.terminate)
        assert {line["status"] for line in pod.events("handshake.refused")} == {503}, "it was gone already"


@pytest.mark.gen_test(timeout=60)
async def test_a_reload_of_nginx_loses_nothing(any_engine: Engine) -> None:
    """Those connected stay with the old workers and go on receiving; cut with them, they come back."""
    async with behind_nginx(any_engine) as on:
        users = [f"user-{number}" for number in range(6)]
        stay = [on.faithful(user) for user in users]
        await on.all_live(stay)
        proxy = cast(Nginx, on.proxy)
        old = proxy.workers()
        proxy.reload()
        # Before they leave they take newcomers, beside the new ones. One without connections is gone at once.
        await eventually(lambda: proxy.workers() - old and proxy.workers() & old <= proxy.leaving())
        await on.everyone_receives(users, stay)
        assert [one.connects for one in stay] == [1] * len(stay)
        (newcomer,) = await together(on.stage.live(on.proxy, "newcomer"))
        for worker in old:
            # What `worker_shutdown_timeout` does, in the end.
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGTERM)
        await eventually(lambda: not proxy.workers() & old)
        await on.everyone_receives(users, stay)
        assert min(one.connects for one in stay) >= 2
        assert newcomer.closed is None
        for one in stay:
            await one.leave()
