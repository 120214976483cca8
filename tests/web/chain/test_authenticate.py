"""Nobody passes whose token was not verified."""

from __future__ import annotations

import pytest

from pushserver.core.context import Context
from pushserver.core.errors import FetchError
from pushserver.web.chain import CLOSE_CODE, IDENTITY, USER
from pushserver.web.chain.authenticate import Authenticate
from pushserver.web.token_keys import TokenKey, load_keys
from pushserver.web.tokens import TokenVerifier, make_token
from tests.pod import SECRET
from tests.web.chain.contexts import answer, credentials, run

NOW = 1_700_000_000.0


def token(user: str = "alice", ttl_s: float = 60) -> str:
    return make_token(SECRET.encode(), user, ttl_s, NOW)


async def judge(brought: str | None, query: str = "", *, offered: bool = False) -> Context:
    keys = load_keys(["HS256"], secret=SECRET.encode())
    link = Authenticate(TokenVerifier(keys, now=lambda: NOW))
    return await run(link.handle, keys=credentials(brought, offered=offered), query=query)


@pytest.mark.gen_test
async def test_a_believed_token_tells_who_it_is() -> None:
    ctx = await judge(token("alice"))
    assert answer(ctx) == (None, "")
    assert ctx.keys[USER] == "alice"
    assert ctx.keys[IDENTITY].expires_at == NOW + 60


@pytest.mark.gen_test
@pytest.mark.parametrize("brought", [None, "", "a.b.c", token(ttl_s=-1), token()[:-2]])
async def test_any_other_is_401_and_nobody_is_noted(brought: str | None) -> None:
    ctx = await judge(brought)
    assert answer(ctx) == (401, "not_authenticated")
    assert ctx.writer.headers["Www-Authenticate"] == "Bearer"
    assert not {USER, IDENTITY, CLOSE_CODE} & ctx.keys.keys()
    assert not brought or brought.encode() not in ctx.writer.body


@pytest.mark.gen_test
async def test_who_offers_our_subprotocol_is_to_be_closed_with_4401() -> None:
    ctx = await judge("a.b.c", offered=True)
    assert answer(ctx) == (401, "not_authenticated")
    assert ctx.keys[CLOSE_CODE] == 4401


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "query", ["user=bob", "user=", "user=alice&user=bob", "user=ALICE", "user=%61lice%00"]
)
async def test_a_routing_hint_to_somebody_else_is_400(query: str) -> None:
    ctx = await judge(token("alice"), query, offered=True)
    assert answer(ctx) == (400, "bad_handshake")
    assert not {USER, IDENTITY, CLOSE_CODE} & ctx.keys.keys()


@pytest.mark.gen_test
async def test_a_routing_hint_to_the_same_user_passes() -> None:
    assert (await judge(token("al ice"), "user=al%20ice&x=1")).keys[USER] == "al ice"


class NoKeys:
    """A key source that cannot be reached."""

    algorithms = ("HS256",)

    def find(self, key_id: str | None, algorithm: str) -> TokenKey:
        raise FetchError("keys", "not fetched yet")

    async def look_again(self) -> bool:
        return False


@pytest.mark.gen_test
@pytest.mark.parametrize("offered", [False, True])
async def test_where_nobody_can_tell_it_is_503_for_a_good_token_would_be_thrown_away(offered: bool) -> None:
    link = Authenticate(TokenVerifier([], now=lambda: NOW, source=NoKeys()))
    ctx = await run(link.handle, keys=credentials(token("alice"), offered=offered))
    assert answer(ctx) == (503, "keys")
    assert ctx.writer.headers["Retry-After"] == "5"
    assert not {USER, IDENTITY, CLOSE_CODE} & ctx.keys.keys()
