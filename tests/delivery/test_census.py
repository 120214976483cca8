"""How many connections each category has."""

from __future__ import annotations

import asyncio

import pytest

from pushserver.delivery.census import FRESH_S, TOP, Census
from pushserver.delivery.connection import Connection
from pushserver.delivery.manager import Manager
from tests.callbacks import short_callbacks
from tests.cpu_time import measured_again
from tests.delivery.wire import connection


def registered(manager: Manager, **categories: tuple[str, ...]) -> Connection:
    made = connection("alice", categories=categories)
    manager.add(made)
    return made


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.gen_test
async def test_each_kind_has_its_largest_values_first_and_the_number_of_all() -> None:
    manager = Manager()
    for number in range(TOP + 5):
        for _ in range(number + 1):
            registered(manager, vip=(str(number),), hall=("x", "y"))
    vip, hall = await Census(manager).categories()
    assert (vip["kind"], vip["values"], len(vip["top"])) == ("vip", TOP + 5, TOP)
    assert vip["top"][:2] == [{"value": "14", "connections": 15}, {"value": "13", "connections": 14}]
    assert hall == {
        "kind": "hall",
        "values": 2,
        "top": [{"value": "x", "connections": 120}, {"value": "y", "connections": 120}],
    }


@pytest.mark.gen_test
async def test_nobody_is_no_kind() -> None:
    manager = Manager()
    manager.remove(registered(manager, vip=("1",)))
    assert await Census(manager).categories() == []


@pytest.mark.gen_test
async def test_a_count_serves_whoever_asks_for_a_while_and_no_longer() -> None:
    manager, clock = Manager(), Clock()
    census = Census(manager, clock)
    registered(manager, vip=("1",))
    both = await asyncio.gather(census.categories(), census.categories())
    assert both[0] is both[1]
    registered(manager, vip=("1",))
    clock.now += FRESH_S / 2
    assert (await census.categories())[0]["top"][0]["connections"] == 1
    clock.now += FRESH_S / 2
    assert (await census.categories())[0]["top"][0]["connections"] == 2


@pytest.mark.gen_test
async def test_who_leaves_while_it_counts_does_no_harm() -> None:
    manager = Manager()
    all_of_them = [registered(manager, vip=(str(number),)) for number in range(2000)]
    counting = asyncio.ensure_future(Census(manager).categories())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for one in all_of_them:
        manager.remove(one)
    (vip,) = await counting
    assert 0 < vip["values"] < 2000


@measured_again
@pytest.mark.gen_test(timeout=60)
async def test_a_full_pod_whose_users_have_nothing_in_common_is_counted_in_short_turns() -> None:
    manager, kinds = Manager(), ("vip", "level", "hall", "agent", "sa", "co", "sc")
    for number in range(19_000):
        registered(manager, **{kind: (f"{kind}-{number}",) for kind in kinds})
    census = Census(manager)
    with short_callbacks():
        told = await asyncio.create_task(census.categories())
    assert [one["values"] for one in told] == [19_000] * 7
