"""The checker itself: a right history passes, and each way of breaking it is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.system.checker import check, faults
from tests.system.history import Broadcast, Exposed, History, Line


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
    _broadcast(history)
    return history


def _broadcast(history: History) -> None:
    """b1 to vip 1 and b2 to everyone are answered, b3 to vip 1 is not; b0 was before anybody came.

    carol (vip 1) gets b1 on her first connection, b2 again on her second; dave (vip 2) gets b2. erin is vip 1
    and was never here; frank was here, and b2 is still behind his cursor.
    """
    history.categories = {
        "carol": {"vip": ("1",)},
        "dave": {"vip": ("2",)},
        "erin": {"vip": ("1",)},
        "frank": {},
    }
    history.broadcasts = {
        "b0": Broadcast({}, 0.5, answered=True),
        "b1": Broadcast({"vip": ("1", "3")}, 1.5, answered=True),
        "b2": Broadcast({}, 2.5, answered=True),
        "b3": Broadcast({"vip": ("1",)}, 3.5),
    }
    history.log = {"b0": 10, "b1": 11, "b2": 12, "b3": 13}
    history.cursors = {"carol": 13, "dave": 12, "erin": 0, "frank": 11}
    history.settled |= {("carol", "b0"): 0.9, ("carol", "b1"): 1.9, ("carol", "b2"): 2.9}
    history.lines += [
        Line("carol", 1.0, "third", [("b1", 1.6), ("b2", 2.6)], welcomed_at=1.1),
        Line("carol", 2.0, "fourth", [("b2", 2.6), ("b3", 3.6)], welcomed_at=2.1, quiet=True),
        Line("dave", 2.0, "fifth", [("b2", 2.6)], welcomed_at=2.1, quiet=True),
        Line("frank", 1.0, "sixth", [], welcomed_at=1.1),
    ]
    history.exposed += [
        Exposed("b1", "carol", "third", "pong"),
        *(Exposed(message_id, "carol", "fourth", "pong") for message_id in ("b2", "b3")),
        Exposed("b2", "dave", "fifth", "pong"),
    ]


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


def _lose_a_broadcast(history: History) -> None:
    history.cursors["frank"] = 12


def _lose_a_broadcast_that_the_log_never_had(history: History) -> None:
    del history.log["b2"]
    history.lines[4].quiet = False
    history.lines[4].received.clear()
    history.exposed = [one for one in history.exposed if one.user != "dave"]


def _leave_out_an_open_connection(history: History) -> None:
    del history.lines[3].received[0]
    history.exposed = [one for one in history.exposed if (one.connection, one.message_id) != ("fourth", "b2")]
    history.exposed.append(Exposed("b2", "carol", "third", "pong"))


def _broadcast_to_whom_it_does_not_mean(history: History) -> None:
    history.lines[4].received.insert(0, ("b1", 2.2))
    history.exposed.append(Exposed("b1", "dave", "fifth", "pong"))


def _broadcast_twice(history: History) -> None:
    history.lines[2].received.append(("b2", 2.7))


def _broadcast_against_the_log(history: History) -> None:
    history.lines[2].received = [("b2", 1.6), ("b1", 2.6)]


def _broadcast_what_is_behind_the_cursor(history: History) -> None:
    history.lines[3].received.insert(0, ("b1", 2.2))
    history.exposed.append(Exposed("b1", "carol", "fourth", "pong"))


def _move_a_cursor_without_an_exposure(history: History) -> None:
    history.exposed = [one for one in history.exposed if one.message_id != "b1"]


def _confirm_a_broadcast_without_an_exposure_of_its_own(history: History) -> None:
    history.exposed.remove(Exposed("b3", "carol", "fourth", "pong"))


def _expose_a_broadcast_that_never_arrived(history: History) -> None:
    history.exposed.append(Exposed("b2", "frank", "sixth", "pong"))


def _tell_of_a_gap(history: History) -> None:
    history.lines[2].gap = True


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
        (_lose_a_broadcast, "b2 is lost for frank, whom it means"),
        (_lose_a_broadcast_that_the_log_never_had, "b2 is lost for dave, whom it means"),
        (_leave_out_an_open_connection, "b2 did not reach the connection fourth of carol"),
        (_broadcast_to_whom_it_does_not_mean, "b1 reached dave, and was not for them"),
        (_broadcast_twice, "b2 came 2 times on one connection of carol"),
        (_broadcast_against_the_log, "b1 came to carol after b2, against the order of the log"),
        (_broadcast_what_is_behind_the_cursor, "b1 of carol was settled, and came again"),
        (_move_a_cursor_without_an_exposure, "b1 of carol is behind the cursor and has no exposure"),
        (_confirm_a_broadcast_without_an_exposure_of_its_own, "b3 has no exposure of connection fourth"),
        (_expose_a_broadcast_that_never_arrived, "b2 is exposed for frank on sixth, which never received it"),
        (_tell_of_a_gap, "carol was told of a gap, and nothing was trimmed"),
    ],
)
def test_a_broken_history_is_told(break_it: Callable[[History], None], told: str) -> None:
    history = a_right_history()
    break_it(history)
    assert told in list(faults(history))
    with pytest.raises(AssertionError):
        check(history)
