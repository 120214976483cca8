"""Who is connected, by user and by category; and nothing left of who has gone."""

from __future__ import annotations

import random

import pytest

from pushserver.core.categories import matches
from pushserver.delivery.connection import Connection
from pushserver.delivery.manager import Manager
from tests.delivery.wire import connection


def one(user: str = "alice", **categories: tuple[str, ...]) -> Connection:
    return connection(user, categories=categories)


def test_only_the_first_connection_of_a_user_is_the_first() -> None:
    manager = Manager()
    assert manager.add(one())
    assert not manager.add(one())
    assert manager.add(one("bob"))


def test_only_the_last_connection_of_a_user_is_the_last() -> None:
    manager, first, second = Manager(), one(), one()
    manager.add(first)
    manager.add(second)
    assert not manager.remove(first)
    assert manager.has("alice")
    assert manager.remove(second)
    assert not manager.has("alice")


def test_a_category_has_the_size_of_those_who_have_it() -> None:
    manager, first, second = Manager(), one(vip=("1", "2")), one("bob", vip=("1",))
    manager.add(first)
    manager.add(second)
    assert sorted(manager.categories()) == [("vip", "1"), ("vip", "2")]
    assert (manager.category_size("vip", "1"), manager.category_size("vip", "2")) == (2, 1)
    manager.remove(first)
    assert manager.categories() == [("vip", "1")]
    assert manager.category_size("vip", "2") == 0


def test_removing_who_is_not_there_changes_nothing() -> None:
    manager, there, stranger = Manager(), one(vip=("1",)), one(vip=("1",))
    manager.add(there)
    assert not manager.remove(stranger)
    assert not manager.remove(one("bob"))
    assert manager.of("alice") == (there,)
    assert manager.matching({"vip": ("1",)}) == [there]


def test_a_connection_cannot_be_registered_twice() -> None:
    manager, first = Manager(), one()
    manager.add(first)
    with pytest.raises(ValueError, match="registered already"):
        manager.add(first)
    assert len(manager) == 1


def test_connections_of_a_user_are_told_oldest_first() -> None:
    manager, three = Manager(), [one(), one(), one()]
    for connected in three:
        manager.add(connected)
    manager.remove(three[1])
    assert manager.of("alice") == (three[0], three[2])
    assert manager.of("nobody") == ()


def test_the_counts_are_of_connections_users_and_categories() -> None:
    manager = Manager()
    for connected in (one(vip=("1",)), one(vip=("1", "2")), one("bob", hall=("1",))):
        manager.add(connected)
    assert (len(manager), manager.user_count, manager.category_count) == (3, 2, 3)
    assert sorted(manager.users()) == ["alice", "bob"]


def test_the_connections_may_change_while_somebody_goes_through_them() -> None:
    manager = Manager()
    for name in ("alice", "bob", "carol"):
        manager.add(one(name))
    seen = []
    for connected in manager:
        manager.remove(connected)
        manager.add(one(f"{connected.user}-2"))
        seen.append(connected.user)
    assert seen == ["alice", "bob", "carol"]


def test_an_empty_target_means_everyone() -> None:
    manager, two = Manager(), [one(), one("bob", vip=("1",))]
    for connected in two:
        manager.add(connected)
    assert manager.matching({}) == two


@pytest.mark.parametrize(
    "target, names",
    [
        ({"vip": ("1",)}, {"alice", "bob"}),
        ({"vip": ("1", "2")}, {"alice", "bob", "carol"}),
        ({"vip": ("1", "2"), "hall": ("9",)}, {"bob", "carol"}),
        ({"vip": ("1",), "hall": ("8",)}, set()),
        ({"vip": ("nobody",)}, set()),
        ({"level": ("1",)}, set()),
        ({"vip": ()}, set()),
    ],
)
def test_a_target_means_any_value_within_a_kind_and_all_of_the_kinds(
    target: dict[str, tuple[str, ...]], names: set[str]
) -> None:
    manager = Manager()
    manager.add(one("alice", vip=("1",)))
    manager.add(one("bob", vip=("1", "2"), hall=("9",)))
    manager.add(one("carol", vip=("2",), hall=("9",)))
    assert {connected.user for connected in manager.matching(target)} == names


def test_a_connection_with_several_of_the_values_is_meant_once() -> None:
    manager, both = Manager(), one(vip=("1", "2"))
    manager.add(both)
    assert manager.matching({"vip": ("1", "2")}) == [both]


def test_a_value_that_stands_twice_among_the_categories_is_one() -> None:
    manager, twice = Manager(), one(vip=("1", "1"))
    manager.add(twice)
    assert manager.matching({"vip": ("1",)}) == [twice]
    manager.remove(twice)
    assert manager.category_count == 0


def test_changed_categories_count_at_once_and_completely() -> None:
    manager, moved, other = Manager(), one(vip=("1",), hall=("9",)), one("bob", vip=("1",))
    manager.add(moved)
    manager.add(other)
    manager.change_categories(moved, {"vip": ("2",)})
    assert manager.matching({"vip": ("1",)}) == [other]
    assert manager.matching({"vip": ("2",)}) == [moved]
    assert manager.matching({"hall": ("9",)}) == []
    assert moved.categories == {"vip": ("2",)}
    assert b'"vip":["2"]' in moved.exposure_part


def test_who_has_gone_leaves_nothing_behind() -> None:
    """Flapping with changing categories, and at the end all are gone."""
    chance, manager = random.Random(7), Manager()
    here: list[Connection] = []
    for _ in range(3000):
        act = chance.random()
        if act < 0.5 or not here:
            here.append(one(f"user-{chance.randrange(20)}", vip=(str(chance.randrange(5)),)))
            manager.add(here[-1])
        elif act < 0.6:
            manager.change_categories(chance.choice(here), {"hall": (str(chance.randrange(5)), "x")})
        else:
            manager.remove(here.pop(chance.randrange(len(here))))
        assert len(manager) == len(here)
        assert manager.user_count == len({connected.user for connected in here})
    for target in ({"vip": ("1", "2")}, {"hall": ("x",)}, {"hall": ("1",), "vip": ("1",)}):
        expected = {connected for connected in here if matches(target, connected.categories)}
        found = manager.matching(target)
        assert len(found) == len(set(found))
        assert set(found) == expected
    for connected in here:
        manager.remove(connected)
    assert (len(manager), manager.user_count, manager.category_count) == (0, 0, 0)
    assert (list(manager), manager.users()) == ([], [])
