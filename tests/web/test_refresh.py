"""A new token over an open connection."""

from __future__ import annotations

from typing import Any

import pytest

from pushserver.app import App
from pushserver.core.categories import Categories
from pushserver.core.errors import NotAuthenticatedError, StoreUnavailableError
from pushserver.web.refresh import Refresh
from pushserver.web.token_keys import load_keys
from pushserver.web.tokens import Identity, TokenVerifier, make_token
from tests.pod import SECRET
from tests.web.doorway import doorway

NOW = 1_700_000_000.0


def token(user: str = "alice", ttl_s: float = 60) -> str:
    return make_token(SECRET.encode(), user, ttl_s, NOW)


def refresh(found: Categories | Exception) -> Refresh:
    async def source(identity: Identity) -> Categories:
        if isinstance(found, Exception):
            raise found
        return found

    keys = load_keys(["HS256"], secret=SECRET.encode())
    return Refresh(TokenVerifier(keys, leeway_s=10, now=lambda: NOW), source)


@pytest.mark.gen_test
async def test_a_token_of_the_same_user_brings_a_new_expiry_and_new_categories() -> None:
    who = await refresh({"vip": ("4",)})(token("alice", 60), "alice")
    assert (who.user, who.categories) == ("alice", {"vip": ("4",)})
    assert (who.token_expires, who.expires_at) == (NOW + 60, NOW + 70)


@pytest.mark.gen_test
@pytest.mark.parametrize("given", [token("bob"), token("Alice"), token(ttl_s=-11), "a.b.c", ""])
async def test_any_other_token_is_not_believed(given: str) -> None:
    with pytest.raises(NotAuthenticatedError):
        await refresh({})(given, "alice")


@pytest.mark.gen_test
async def test_categories_that_cannot_be_read_are_a_trouble_of_the_store() -> None:
    for trouble in (ValueError("not JSON"), StoreUnavailableError("away", "")):
        with pytest.raises(StoreUnavailableError):
            await refresh(trouble)(token(), "alice")


@pytest.mark.gen_test
async def test_a_claim_that_is_no_categories_is_a_token_that_is_not_believed() -> None:
    with pytest.raises(NotAuthenticatedError):
        await refresh(NotAuthenticatedError("token categories"))(token(), "alice")


@pytest.mark.gen_test
async def test_a_refresh_moves_the_connection_and_welcomes_it_again() -> None:
    async with doorway() as door:
        client = await door.connect("alice")
        fresh = door.token("alice", ttl_s=6000, categories={"vip": 4})
        await client.send({"type": "refresh", "token": fresh})
        welcome = (await client.until("welcome"))[-1]
        assert welcome["categories"] == {"vip": ["4"]}
        (connection,) = door.app.manager.matching({"vip": ("4",)})
        assert connection.id == welcome["connection"]
        assert connection.expires_at == pytest.approx(welcome["expires"] + 10, abs=1)


@pytest.mark.gen_test
async def test_a_refresh_by_another_users_token_is_closed_with_4401() -> None:
    async with doorway() as door:
        for given in (door.token("bob"), door.token("alice", ttl_s=-60), "a.b.c"):
            client = await door.connect("alice")
            await client.send({"type": "refresh", "token": given})
            assert (await client.closed()).code == 4401


@pytest.mark.gen_test
async def test_a_refresh_while_the_store_is_away_may_be_tried_again() -> None:
    def without_store(app: App) -> None:
        async def away(*args: Any) -> None:
            raise StoreUnavailableError("away", "")

        app.sessions._refresh = away  # type: ignore[assignment]

    async with doorway(prepare=without_store) as door:
        client = await door.connect("alice")
        await client.send({"type": "refresh", "token": door.token("alice")})
        assert (await client.frame())["code"] == "unavailable"
        assert door.app.manager.of("alice")[0].is_open()
