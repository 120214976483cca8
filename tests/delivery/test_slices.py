"""Work in slices: everything in its order, and others have their turn in between."""

from __future__ import annotations

import asyncio

import pytest

from pushserver.delivery.slices import SLICE, in_slices


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "count, turns", [(0, 0), (1, 0), (SLICE, 0), (SLICE + 1, 1), (2 * SLICE, 1), (3 * SLICE + 7, 3)]
)
async def test_all_items_come_in_order_with_a_turn_for_others_after_each_slice(
    count: int, turns: int
) -> None:
    had = 0
    done = asyncio.Event()

    async def others() -> None:
        nonlocal had
        while not done.is_set():
            had += 1
            await asyncio.sleep(0)

    waiting = asyncio.ensure_future(others())
    await asyncio.sleep(0)
    before = had
    assert [item async for item in in_slices(range(count))] == list(range(count))
    assert had - before == turns
    done.set()
    await waiting


@pytest.mark.gen_test
async def test_what_weighs_more_takes_the_place_of_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn for others comes before the first item that begins a new slice."""
    passed: list[int] = []
    turn = asyncio.sleep

    async def counted(seconds: float) -> None:
        passed.append(len(done))
        await turn(seconds)

    monkeypatch.setattr("pushserver.delivery.slices.asyncio.sleep", counted)
    done: list[int] = []
    weights = [SLICE - 1, 1, SLICE, 3 * SLICE, 0, 1, 1]
    async for item in in_slices(weights, lambda weight: weight):
        done.append(item)
    assert done == weights
    assert passed == [2, 3, 4]


@pytest.mark.gen_test
async def test_what_is_done_with_an_item_is_done_before_the_next_is_asked_for() -> None:
    """So a generator of items sees what was done with those before."""
    done: list[int] = []
    async for item in in_slices(one for one in (1, 2, 3) if len(done) == one - 1):
        done.append(item)
    assert done == [1, 2, 3]
