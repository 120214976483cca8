"""The checker itself: a right history passes, and each way of breaking it is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system.checker import check, faults
from tests.system.history import Exposed, History, Line


def a_right_history() -> History:
    """alice gets three messages: two on her first connection, the second again and the third on another."""
    history = History()
    history.accepted["alice"] = ["m1", "m2", "m3"]
    history.accepted["bob"] = ["m1"]
    history.attempted["alice"] = {"m4"}
    history.lines = [
        Line("alice", 1.0, "first", [("m1", 1.1), ("m2", 1.2)]),
        Line("alice", 2.0, "second", [("m2", 2.1), ("m3", 2.2), ("m4", 2.3)], quiet=True),
    ]
    history.settled = {("alice", "m1"): 1.9, ("alice", "m2"): 2.9}
    history.waiting = {"alice": [], "bob": ["m1"]}
    history.exposed = [
        Exposed("m1", "alice", "first", "pong"),
        *(Exposed(message_id, "alice", "second", "pong") for message_id in ("m2", "m3", "m4")),
    ]
    return history


def test_a_right_history_passes() -> None:
    check(a_right_history())


def test_what_is_excused_may_be_lost() -> None:
    history = a_right_history()
    history.accepted["alice"].append("m5")
    history.excused.add(("alice", "m5"))
    check(history)


def _lose_what_waits(history: History) -> None:
    history.waiting["bob"] = []
    history.exposed.append(Exposed("m1", "bob", "none", "pong"))
    history.lines.append(Line("bob", 1.0, "none"))


def _lose_what_one_of_two_users_got(history: History) -> None:
    history.waiting["bob"] = []


def _drop_a_delivery(history: History) -> None:
    del history.lines[1].received[1]


def _deliver_to_the_wrong_user(history: History) -> None:
    history.lines.append(Line("bob", 3.0, "third", [("m3", 3.1)]))


def _deliver_twice(history: History) -> None:
    history.lines[0].received.append(("m2", 1.3))


def _deliver_in_the_wrong_order(history: History) -> None:
    history.lines[1].received = [("m3", 2.1), ("m2", 2.2), ("m4", 2.3)]


def _deliver_what_was_settled(history: History) -> None:
    history.lines[1].received.insert(0, ("m1", 2.05))
    history.exposed.append(Exposed("m1", "alice", "second", "pong"))


def _settle_without_an_exposure(history: History) -> None:
    history.lines[1].quiet = False
    history.exposed = [one for one in history.exposed if one.message_id != "m3"]


def _confirm_without_an_exposure_of_its_own(history: History) -> None:
    history.exposed = [one for one in history.exposed if one.message_id != "m2"]
    history.exposed.append(Exposed("m2", "alice", "first", "pong"))


def _expose_what_never_arrived(history: History) -> None:
    history.exposed.append(Exposed("m3", "alice", "first", "pong"))


def _expose_for_the_wrong_user(history: History) -> None:
    history.exposed.append(Exposed("m1", "bob", "first", "pong"))


@pytest.mark.parametrize(
    "break_it, told",
    [
        (_lose_what_waits, "m1 of bob is lost"),
        (_lose_what_one_of_two_users_got, "m1 of bob is lost"),
        (_drop_a_delivery, "m3 of alice is lost"),
        (_deliver_to_the_wrong_user, "m3 reached bob, and was not for them"),
        (_deliver_twice, "m2 came 2 times on one connection of alice"),
        (_deliver_in_the_wrong_order, "m2 of alice came after m3"),
        (_deliver_what_was_settled, "m1 of alice was settled, and came again"),
        (_settle_without_an_exposure, "m3 of alice is settled and has no exposure"),
        (_confirm_without_an_exposure_of_its_own, "m2 has no exposure of connection second"),
        (_expose_what_never_arrived, "m3 is exposed for alice on first, which never received it"),
        (_expose_for_the_wrong_user, "m1 is exposed for bob on first, which never received it"),
    ],
)
def test_a_broken_history_is_told(break_it: Callable[[History], None], told: str) -> None:
    history = a_right_history()
    break_it(history)
    assert told in list(faults(history))
    with pytest.raises(AssertionError):
        check(history)
