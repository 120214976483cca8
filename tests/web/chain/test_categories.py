"""What kind of user it is, read in the same round trip that announces the user."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from pushserver.core.categories import Categories
from pushserver.core.context import Context
from pushserver.core.errors import FetchError, NotAuthenticatedError, StoreUnavailableError
from pushserver.web.chain import CATEGORIES, CLOSE_CODE, IDENTITY, LOG_AT, USER
from pushserver.web.chain.categories import CategoriesLink, from_claims, from_redis
from pushserver.web.chain.recovery import recovery
from pushserver.web.tokens import Identity
from tests.web.chain.contexts import answer, credentials, run

ALICE = Identity("alice", 0.0)
KEYS = {IDENTITY: ALICE, USER: "alice", **credentials("a.b.c")}
VIP = {"vip": ("3",)}


class Store:
    """Answers as told; notes who was announced and how often it was read."""

    def __init__(self, *answers: Any, places: Sequence[int | Exception] = (0,)) -> None:
        self.answers = list(answers)
        self.places = list(places)
        self.announced: list[str] = []
        self.reads = 0

    async def read(self, identity: Identity) -> Categories:
        self.reads += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        answer: Categories = await found() if callable(found) else found
        return answer

    async def announce(self, user: str) -> None:
        self.announced.append(user)

    async def cursor(self, user: str) -> int:
        assert user == "alice"
        place = self.places.pop(0) if len(self.places) > 1 else self.places[0]
        if isinstance(place, Exception):
            raise place
        return place


async def ask(store: Store, *, wait_ms: int = 5000, keys: dict[Any, Any] = KEYS) -> Context:
    link = CategoriesLink(store.read, store.announce, store.cursor, connect_wait_ms=wait_ms)
    return await run(recovery, link.handle, keys=keys)


@pytest.mark.gen_test
async def test_the_categories_and_the_place_in_the_log_are_noted_and_the_user_is_announced() -> None:
    store = Store(VIP, places=[7])
    ctx = await ask(store)
    assert ctx.keys[CATEGORIES] == VIP
    assert ctx.keys[LOG_AT] == 7
    assert store.announced == ["alice"]


@pytest.mark.gen_test
async def test_reading_announcing_and_looking_into_the_log_go_out_together() -> None:
    """Each waits until all have begun: one after the other would hang."""
    together = asyncio.Barrier(3)

    async def source(identity: Identity) -> Categories:
        await together.wait()
        return VIP

    async def announce(user: str) -> None:
        await together.wait()

    async def cursor(user: str) -> int:
        await together.wait()
        return 7

    ctx = await run(CategoriesLink(source, announce, cursor, connect_wait_ms=5000).handle, keys=KEYS)
    assert (ctx.keys[CATEGORIES], ctx.keys[LOG_AT]) == (VIP, 7)


@pytest.mark.gen_test
async def test_without_a_place_in_the_log_nobody_comes_in() -> None:
    """What is sent to a category after the welcome would have no place that it comes after."""
    store = Store(VIP, places=[StoreUnavailableError("away", "")])
    ctx = await ask(store, wait_ms=150)
    assert answer(ctx) == (503, "unavailable")
    assert CATEGORIES not in ctx.keys
    store = Store(VIP, places=[StoreUnavailableError("away", ""), 7])
    assert (await ask(store)).keys[LOG_AT] == 7


@pytest.mark.gen_test
async def test_a_redis_that_comes_back_in_time_is_waited_for() -> None:
    store = Store(StoreUnavailableError("away", ""), VIP)
    assert (await ask(store)).keys[CATEGORIES] == VIP
    assert store.reads == 2


@pytest.mark.gen_test
async def test_a_redis_that_stays_away_is_503() -> None:
    store = Store(StoreUnavailableError("away", ""))
    ctx = await ask(store, wait_ms=600)
    assert answer(ctx) == (503, "unavailable")
    assert ctx.writer.headers["Retry-After"] == "1"
    assert store.reads > 1


@pytest.mark.gen_test
async def test_a_redis_that_hangs_is_503_after_one_wait_however_late_the_hanging_began() -> None:
    """The wait is for all tries together, and for the pauses between them."""

    async def late_error() -> Categories:
        await asyncio.sleep(0.7)
        raise StoreUnavailableError("away", "")

    store = Store(late_error, asyncio.Event().wait)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert answer(await ask(store, wait_ms=1400)) == (503, "unavailable")
    assert store.reads == 2
    assert loop.time() - began < 2.0, "the second try may not wait as long again"


@pytest.mark.gen_test
@pytest.mark.parametrize("error", [ValueError("not JSON"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")])
async def test_stored_text_that_is_no_categories_is_503_and_logged_once(error: Exception) -> None:
    """Half of a user's categories would reach the wrong people."""
    with capture_logs() as lines:
        ctx = await ask(Store(error))
    assert answer(ctx) == (503, "categories")
    assert CATEGORIES not in ctx.keys
    assert [(line["event"], line["user"]) for line in lines] == [("categories.invalid", "alice")]


@pytest.mark.gen_test
@pytest.mark.parametrize("offered", [False, True])
async def test_a_token_whose_claim_is_no_categories_is_not_believed(offered: bool) -> None:
    store = Store(NotAuthenticatedError("token categories must be an object"))
    ctx = await ask(store, keys={**KEYS, **credentials("a.b.c", offered=offered)})
    assert answer(ctx) == (401, "not_authenticated")
    assert ctx.writer.headers["Www-Authenticate"] == "Bearer"
    assert ctx.keys.get(CLOSE_CODE) == (4401 if offered else None)


@pytest.mark.gen_test
async def test_the_claim_of_a_token_is_read() -> None:
    claim = {"vip": 3, "hall": ["a", "b"]}
    assert await from_claims(Identity("alice", 0.0, claim)) == {"vip": ("3",), "hall": ("a", "b")}


@pytest.mark.gen_test
async def test_a_token_without_the_claim_has_no_categories() -> None:
    assert await from_claims(ALICE) == {}


@pytest.mark.gen_test
@pytest.mark.parametrize("claim", [[], "vip", {"colour": "red"}, {"vip": None}, {"vip": [{}]}, 0, False])
async def test_a_claim_of_another_form_is_not_believed(claim: object) -> None:
    with pytest.raises(NotAuthenticatedError):
        await from_claims(Identity("alice", 0.0, claim))


@pytest.mark.gen_test
async def test_from_redis_asks_for_the_user_of_the_token() -> None:
    async def read(user: str) -> Categories:
        return {"vip": (user,)}

    assert await from_redis(read)(ALICE) == {"vip": ("alice",)}


@pytest.mark.gen_test
async def test_another_server_is_asked_once_however_often_redis_is() -> None:
    store = Store(VIP, places=[StoreUnavailableError("away", ""), StoreUnavailableError("away", ""), 7])
    link = CategoriesLink(store.read, store.announce, store.cursor, connect_wait_ms=5000, asks_elsewhere=True)
    ctx = await run(recovery, link.handle, keys=KEYS)
    assert (ctx.keys[CATEGORIES], ctx.keys[LOG_AT]) == (VIP, 7)
    assert (store.reads, store.places) == (1, [7])


@pytest.mark.gen_test
@pytest.mark.parametrize("offered", [False, True])
async def test_another_server_that_says_nothing_of_use_is_503_and_redis_is_not_asked(offered: bool) -> None:
    store = Store(FetchError("timeout", "no answer within 2 s"))
    link = CategoriesLink(store.read, store.announce, store.cursor, connect_wait_ms=5000, asks_elsewhere=True)
    ctx = await run(recovery, link.handle, keys={**KEYS, **credentials("a.b.c", offered=offered)})
    assert answer(ctx) == (503, "categories")
    assert ctx.writer.headers["Retry-After"] == "5"
    assert not {CATEGORIES, CLOSE_CODE} & ctx.keys.keys()
    assert (store.reads, store.announced) == (1, [])
