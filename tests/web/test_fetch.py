"""Asking another server: whatever it does, there is an answer or a `FetchError`, in time and in bounds."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pushserver.core.errors import ConfigError, FetchError
from pushserver.web import fetch
from pushserver.web.fetch import Fetched, Fetcher, tls_context
from tests.engines.certificates import Authority
from tests.engines.ports import free_port
from tests.http_site import Asked, answer, dripping, hanging, raw, running_site, server_tls
from tests.pod import eventually


@asynccontextmanager
async def fetcher(tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Fetcher]:
    given = {"timeout_s": 5.0, "max_bytes": 1000, **options}
    one = Fetcher(tls or tls_context("a.setting", ""), **given)
    try:
        yield one
    finally:
        await one.close()


async def failure(one: Fetcher, url: str) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await one.get(url)
    assert "s3cret" not in str(caught.value)
    return caught.value


@pytest.mark.gen_test
async def test_an_answer_comes_with_its_status_over_a_connection_that_is_kept() -> None:
    async with running_site() as site, fetcher(headers={"Authorization": "Bearer s3cret"}) as one:
        site.answering = answer(b"hello", 404)
        for _ in range(3):
            assert await one.get(f"{site.url}/a%2Fb?c=%20") == Fetched(404, b"hello")
        assert site.connections == 1
        assert {asked.path for asked in site.asked} == {"/a%2Fb?c=%20"}
        assert site.asked[0].headers["authorization"] == "Bearer s3cret"
        assert site.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.gen_test
async def test_a_kept_connection_that_the_server_has_closed_is_no_failure() -> None:
    async with running_site() as site, fetcher() as one:
        for expected in (1, 2):
            assert (await one.get(site.url)).status == 200
            assert site.connections == expected
            await site.stop()
            await site.start()


@pytest.mark.gen_test
async def test_a_redirect_is_not_followed() -> None:
    async with running_site() as elsewhere, running_site() as site, fetcher() as one:
        for status in (301, 302, 303, 307, 308):
            site.answering = answer(b"", status, Location=f"{elsewhere.url}/")
            assert (await one.get(site.url)).status == status
        assert elsewhere.asked == []


@pytest.mark.gen_test
async def test_cookies_are_not_kept() -> None:
    async with running_site() as site, fetcher() as one:
        site.answering = answer(b"", Set_Cookie="a=b")
        await one.get(site.url)
        await one.get(site.url)
        assert "cookie" not in site.asked[1].headers


@pytest.mark.gen_test
@pytest.mark.parametrize("answering", [hanging, dripping])
async def test_a_server_that_takes_its_time_is_given_up(answering: Any) -> None:
    async with running_site() as site, fetcher(timeout_s=0.15, max_bytes=10**6) as one:
        site.answering = answering
        began = asyncio.get_running_loop().time()
        assert (await failure(one, site.url)).kind == "timeout"
        assert asyncio.get_running_loop().time() - began < 1.5
        site.answering = answer(b"hello")
        assert (await one.get(site.url)).body == b"hello"


@pytest.mark.gen_test
async def test_an_answer_has_its_bound_whether_it_says_its_length_or_not() -> None:
    async with running_site() as site, fetcher() as one:
        site.answering = answer(b"x" * 1000)
        assert len((await one.get(site.url)).body) == 1000
        site.answering = answer(b"x" * 1001)
        assert (await failure(one, site.url)).kind == "too_large"
        chunk = b"1f4\r\n" + b"x" * 500 + b"\r\n"
        site.answering = raw(
            b"HTTP/1.1 200 So\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 3 + b"0\r\n\r\n"
        )
        assert (await failure(one, site.url)).kind == "too_large"
        site.answering = raw(b"HTTP/1.1 200 So\r\n\r\n" + b"x" * 5000)
        assert (await failure(one, site.url)).kind == "too_large"


@pytest.mark.gen_test
async def test_a_compressed_answer_is_not_unpacked() -> None:
    async with running_site() as site, fetcher() as one:
        site.answering = answer(b"\x1f\x8b", Content_Encoding="gzip")
        assert (await failure(one, site.url)).kind == "encoding"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "data,kinds",
    [
        (b"", {"lost"}),
        (b"220 mail.example ESMTP\r\n", {"garbage"}),
        (b"HTTP/1.1 200 So\r\nContent-Length: 10\r\n\r\nshort", {"garbage"}),
        (b"HTTP/1.1 200 So\r\nContent-Length: -1\r\n\r\n", {"garbage"}),
        (b"HTTP/1.1 200 So\r\nX: " + b"s3cret" * 20_000 + b"\r\n\r\n", {"garbage"}),
    ],
    ids=["nothing", "mail", "cut short", "bad length", "long header"],
)
async def test_what_is_no_answer_is_told_apart(data: bytes, kinds: set[str]) -> None:
    async with running_site() as site, fetcher() as one:
        site.answering = raw(data)
        assert (await failure(one, site.url)).kind in kinds


@pytest.mark.gen_test
async def test_a_server_that_is_not_there_is_told_at_once() -> None:
    async with fetcher() as one:
        error = await failure(one, f"http://127.0.0.1:{free_port()}/s3cret")
        assert (error.kind, error.reason) == ("connect", "Connection refused")


@pytest.mark.gen_test
async def test_only_a_server_whose_authority_is_known_is_asked(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    (tmp_path / "other").mkdir()
    others = Authority(tmp_path / "other", "others")
    trusting = tls_context("a.setting", str(ours.certificate))
    async with running_site(server_tls(ours)) as site, fetcher(trusting) as one:
        assert (await one.get(site.url)).status == 200
        async with fetcher() as system:
            assert (await failure(system, site.url)).kind == "tls"
    async with running_site(server_tls(others)) as site, fetcher(trusting) as one:
        assert (await failure(one, site.url)).kind == "tls"
        assert site.asked == []
    async with running_site(server_tls(ours, "elsewhere.example")) as site, fetcher(trusting) as one:
        assert (await failure(one, site.url)).kind == "tls"
        assert site.asked == []


@pytest.mark.gen_test
async def test_so_many_are_asked_at_a_time_the_others_wait_and_too_many_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch, "MAX_WAITING", 3)
    go_on = asyncio.Event()

    async def held(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await answer(b"")(asked, writer)

    async with running_site() as site, fetcher(max_connections=2) as one:
        site.answering = held
        asking = [asyncio.ensure_future(one.get(site.url)) for _ in range(5)]
        await eventually(lambda: len(site.asked) == 2)
        assert one.in_hand == 5
        assert (await failure(one, site.url)).kind == "busy"
        go_on.set()
        assert {one.status for one in await asyncio.gather(*asking)} == {200}
        assert (one.in_hand, site.most_at_once, site.connections) == (0, 2, 2)


@pytest.mark.gen_test
async def test_who_is_cancelled_while_asking_or_waiting_leaves_room_for_others() -> None:
    async with running_site() as site, fetcher() as one:
        site.answering = hanging
        asking, waiting = (asyncio.ensure_future(one.get(site.url)) for _ in range(2))
        await eventually(lambda: len(site.asked) == 1)
        for task in (waiting, asking):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        site.answering = answer(b"hello")
        assert (await one.get(site.url)).body == b"hello"
        assert one.in_hand == 0


def test_a_file_that_is_no_authority_is_a_bad_setting(tmp_path: Path) -> None:
    wrong = tmp_path / "ca.pem"
    wrong.write_text("nothing")
    for file in (wrong, tmp_path / "missing.pem"):
        with pytest.raises(ConfigError) as caught:
            tls_context("auth.jwks_ca_file", str(file))
        assert caught.value.setting == "auth.jwks_ca_file"
