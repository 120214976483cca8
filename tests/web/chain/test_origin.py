"""Which web pages may connect, judged in our own chain."""

from __future__ import annotations

from typing import Any

import pytest

from pushserver.core.context import Context
from pushserver.web.chain import CREDENTIALS
from pushserver.web.chain.origin import Origin
from pushserver.web.credentials import TokenSource
from pushserver.web.origins import OriginPolicy
from tests.web.chain.contexts import answer, run

PAGE = ("Origin", "https://page.example")
COOKIE = ("Cookie", "pushserver_token=a.b.c")


async def judge(*headers: tuple[str, str], allow: tuple[str, ...] = (PAGE[1],), **more: Any) -> Context:
    query_token = more.pop("query_token", False)
    link = Origin(OriginPolicy(allow), query_token=query_token)
    return await run(link.handle, headers=headers, host=more.pop("host", "page.example"), **more)


@pytest.mark.gen_test
async def test_what_the_handshake_brought_is_noted_for_the_next_link() -> None:
    ctx = await judge(("Authorization", "Bearer a.b.c"), PAGE)
    assert answer(ctx) == (None, "")
    assert ctx.keys[CREDENTIALS].token == "a.b.c"
    assert ctx.keys[CREDENTIALS].source is TokenSource.HEADER


@pytest.mark.gen_test
async def test_a_page_that_is_not_listed_is_403() -> None:
    assert answer(await judge(("Origin", "https://evil.example"), COOKIE)) == (403, "origin")


@pytest.mark.gen_test
async def test_what_a_browser_says_beside_origin_changes_nothing() -> None:
    """Tornado 6.6 lets `Sec-Fetch-Site: same-origin` pass without looking at the origin."""
    forged = ("Sec-Fetch-Site", "same-origin")
    assert answer(await judge(("Origin", "https://evil.example"), forged)) == (403, "origin")
    assert answer(await judge(PAGE, ("Sec-Fetch-Site", "cross-site"))) == (None, "")


@pytest.mark.gen_test
async def test_the_cookie_counts_only_with_an_allow_list_and_an_origin() -> None:
    assert (await judge(COOKIE, PAGE)).keys[CREDENTIALS].token == "a.b.c"
    assert answer(await judge(COOKIE)) == (403, "origin")
    assert (await judge(COOKIE, allow=())).keys[CREDENTIALS].token is None


@pytest.mark.gen_test
async def test_a_host_that_is_not_ours_is_421() -> None:
    assert answer(await judge(PAGE, host="rebound.example")) == (421, "wrong_host")


@pytest.mark.gen_test
async def test_the_query_is_looked_at_only_if_that_is_switched_on() -> None:
    assert (await judge(query="token=a.b.c")).keys[CREDENTIALS].token is None
    assert (await judge(query="token=a.b.c", query_token=True)).keys[CREDENTIALS].token == "a.b.c"


@pytest.mark.gen_test
async def test_a_handshake_that_contradicts_itself_is_400_and_not_quoted() -> None:
    ctx = await judge(("Sec-WebSocket-Protocol", "bearer.SECRETTOKEN"))
    assert answer(ctx) == (400, "bad_handshake")
    assert b"SECRETTOKEN" not in ctx.writer.body
