"""The order in which a chain's handlers run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from pushserver.core.client_ip import ClientIPRule
from pushserver.core.context import MAX_HANDLERS, Context, Handler
from pushserver.core.request import HttpRequest


def context(*handlers: Handler | None) -> Context:
    return Context(HttpRequest("GET", "/ws"), ClientIPRule(), handlers)


def noting(name: str, notes: list[str]) -> Handler:
    """A plain handler that says it was here and never calls next."""

    def handler(ctx: Context) -> None:
        notes.append(name)

    return handler


def around(name: str, notes: list[str]) -> Handler:
    """An async handler that says when it starts and when the rest of the chain is through."""

    async def handler(ctx: Context) -> None:
        notes.append(f"{name} in")
        await ctx.next()
        notes.append(f"{name} out")

    return handler


@pytest.mark.gen_test
async def test_a_handler_that_never_calls_next_does_not_stop_the_chain() -> None:
    notes: list[str] = []
    ctx = context(noting("a", notes), noting("b", notes), noting("c", notes))
    await ctx.next()
    assert notes == ["a", "b", "c"]
    assert not ctx.is_aborted()


@pytest.mark.gen_test
async def test_code_after_next_runs_on_the_way_back_innermost_first() -> None:
    notes: list[str] = []
    await context(around("a", notes), noting("b", notes), around("c", notes), noting("d", notes)).next()
    assert notes == ["a in", "b", "c in", "d", "c out", "a out"]


@pytest.mark.gen_test
async def test_a_second_next_finds_nothing_left() -> None:
    notes: list[str] = []

    async def twice(ctx: Context) -> None:
        await ctx.next()
        await ctx.next()

    await context(twice, noting("b", notes), noting("c", notes)).next()
    assert notes == ["b", "c"]


@pytest.mark.gen_test
async def test_any_awaitable_that_a_handler_returns_is_awaited_before_the_next() -> None:
    notes: list[str] = []

    def returns_future(ctx: Context) -> Awaitable[None]:
        async def later() -> None:
            await asyncio.sleep(0)
            notes.append("a")

        return asyncio.ensure_future(later())

    await context(returns_future, noting("b", notes)).next()
    assert notes == ["a", "b"]


@pytest.mark.gen_test
async def test_a_plain_handlers_other_results_are_ignored() -> None:
    notes: list[str] = []
    await context(lambda ctx: ctx.set("k", notes.append("a")), lambda ctx: 1, noting("c", notes)).next()  # type: ignore[arg-type,return-value,func-returns-value]
    assert notes == ["a", "c"]


@pytest.mark.gen_test
async def test_nil_handlers_are_skipped() -> None:
    notes: list[str] = []
    await context(None, noting("a", notes), None, None, noting("b", notes), None).next()
    assert notes == ["a", "b"]


@pytest.mark.gen_test
async def test_a_chain_without_handlers_lets_everything_through() -> None:
    ctx = context()
    await ctx.next()
    assert ctx.refusal_status is None


@pytest.mark.gen_test
async def test_the_longest_chain_that_gin_takes_runs_through_and_does_not_look_aborted() -> None:
    notes: list[str] = []

    async def twice(ctx: Context) -> None:
        await ctx.next()
        await ctx.next()

    ctx = context(*[noting("a", notes)] * (MAX_HANDLERS - 1), twice)
    await ctx.next()
    assert len(notes) == 61
    assert not ctx.is_aborted()


def test_a_longer_chain_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 62 handlers, not 63"):
        context(*[None] * 63)


@pytest.mark.gen_test
async def test_interleaved_chains_do_not_meet() -> None:
    notes: list[str] = []

    async def yielding(ctx: Context) -> None:
        await asyncio.sleep(0)
        await ctx.next()
        notes.append(ctx.must_get("name"))

    contexts = [context(yielding, yielding, yielding) for _ in range(3)]
    for name, ctx in zip("abc", contexts, strict=True):
        ctx.set("name", name)
    await asyncio.gather(*(ctx.next() for ctx in contexts))
    assert sorted(notes) == list("aaabbbccc")


@pytest.mark.gen_test
async def test_after_an_abort_no_handler_starts_and_those_that_run_go_on_to_their_end() -> None:
    notes: list[str] = []

    async def aborts(ctx: Context) -> None:
        ctx.abort()
        await ctx.next()
        notes.append("after abort")

    ctx = context(around("a", notes), aborts, noting("never", notes))
    await ctx.next()
    assert notes == ["a in", "after abort", "a out"]
    assert ctx.is_aborted()


@pytest.mark.gen_test
async def test_an_abort_is_for_good() -> None:
    notes: list[str] = []
    ctx = context(noting("never", notes))
    ctx.abort()
    for _ in range(200):
        await ctx.next()
    assert ctx.is_aborted()
    assert notes == []


@pytest.mark.gen_test
async def test_an_exception_leaves_through_every_next() -> None:
    notes: list[str] = []

    async def cleans_up(ctx: Context) -> None:
        try:
            await ctx.next()
        finally:
            notes.append("finally")

    def fails(ctx: Context) -> None:
        raise OSError("gone")

    ctx = context(cleans_up, around("b", notes), fails, noting("never", notes))
    with pytest.raises(OSError, match="gone"):
        await ctx.next()
    assert notes == ["b in", "finally"]


@pytest.mark.gen_test
async def test_whoever_catches_and_does_not_abort_lets_the_chain_go_on_after_the_handler_that_failed() -> (
    None
):
    notes: list[str] = []

    async def catches(ctx: Context) -> None:
        with pytest.raises(OSError, match="gone"):
            await ctx.next()
        notes.append("caught")

    async def fails(ctx: Context) -> None:
        raise OSError("gone")

    await context(catches, noting("b", notes), fails, noting("d", notes)).next()
    assert notes == ["b", "caught", "d"]
