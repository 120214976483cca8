"""One sequence of pings, and what their pongs confirm."""

from __future__ import annotations

import random

import pytest

from pushserver.core.frames import ping_frame
from pushserver.delivery.receipts import PATIENT, PING_EVERY_BYTES, PING_EVERY_MESSAGES, Receipts
from pushserver.delivery.sent import INBOX, Sent
from pushserver.stores.inbox import Missed
from tests.delivery.wire import message

ALL = 10**9
"""The kernel has taken everything."""


def sent(name: str) -> Sent:
    return Sent(message(name), INBOX, "live", 0)


def added(receipts: Receipts, name: str, size: int = 10) -> Sent:
    item = sent(name)
    receipts.add((item,), size)
    return item


def pong(receipts: Receipts, payload: bytes, taken: int, now: float) -> list[Sent] | None:
    """What it confirms; its size must be that of all of these."""
    proven = receipts.pong(payload, taken, now)
    if proven is None:
        return None
    items, size = proven
    assert size == 10 * len(items)
    return list(items)


def rides(receipts: Receipts, item: Sent, ping_by: float, until: float) -> bool:
    """Whether the ping goes out with what is added now, and could wait."""
    receipts.add((item,), 10, ping_by)
    return receipts.rides(until)


def test_pings_count_from_one() -> None:
    receipts = Receipts()
    assert [receipts.ping(0, 0.0) for _ in range(3)] == [ping_frame(b"1"), ping_frame(b"2"), ping_frame(b"3")]


def test_a_pong_confirms_all_that_was_written_before_its_ping_in_order() -> None:
    receipts = Receipts()
    one, two = added(receipts, "1"), added(receipts, "2")
    receipts.ping(0, 0.0)
    receipts.ping(0, 0.0)
    three = added(receipts, "3")
    assert pong(receipts, b"2", ALL, 1.0) == [one, two]
    receipts.ping(0, 1.0)
    assert pong(receipts, b"3", ALL, 1.0) == [three]


def test_what_was_told_is_proven_once_by_the_pong_to_the_ping_behind_it() -> None:
    receipts = Receipts()
    receipts.ping(0, 0.0)
    receipts.tell(Missed(expired=1))
    assert receipts.proven() is None
    receipts.ping(0, 0.0)
    assert pong(receipts, b"1", ALL, 1.0) == []
    assert receipts.proven() is None
    assert pong(receipts, b"2", ALL, 1.0) == []
    assert receipts.proven() == Missed(expired=1)
    assert receipts.proven() is None


def test_what_no_pong_has_confirmed_is_known() -> None:
    receipts = Receipts()
    one = added(receipts, "1")
    receipts.ping(0, 0.0)
    two = added(receipts, "2")
    assert list(receipts.unconfirmed()) == [one, two]
    pong(receipts, b"1", ALL, 1.0)
    assert list(receipts.unconfirmed()) == [two]


def test_each_pong_confirms_only_what_no_other_has() -> None:
    receipts = Receipts()
    one = added(receipts, "1")
    receipts.ping(0, 0.0)
    two = added(receipts, "2")
    receipts.ping(0, 0.0)
    assert pong(receipts, b"1", ALL, 1.0) == [one]
    assert pong(receipts, b"2", ALL, 1.0) == [two]


@pytest.mark.parametrize(
    "payload",
    [b"", b"0", b"4", b"-1", b"+2", b" 2", b"2 ", b"2.0", b"x", b"\xb2", b"9" * 15, b"9" * 125, b"\xff\xff"],
)
def test_a_forged_pong_confirms_nothing(payload: bytes) -> None:
    receipts = Receipts()
    for name in "123":
        added(receipts, name)
        receipts.ping(0, 0.0)
    assert pong(receipts, payload, ALL, 1.0) is None
    assert len(pong(receipts, b"3", ALL, 1.0) or []) == 3


def test_late_and_repeated_pongs_confirm_nothing() -> None:
    receipts = Receipts()
    for name in "12":
        added(receipts, name)
        receipts.ping(0, 0.0)
    assert len(pong(receipts, b"2", ALL, 1.0) or []) == 2
    assert pong(receipts, b"2", ALL, 1.0) is None
    assert pong(receipts, b"1", ALL, 1.0) is None


def test_a_pong_to_a_ping_that_has_not_left_the_process_can_only_be_a_guess() -> None:
    receipts = Receipts()
    one = added(receipts, "1")
    receipts.ping(100, 0.0)
    added(receipts, "2")
    receipts.ping(250, 0.0)
    assert pong(receipts, b"1", 99, 1.0) is None
    assert pong(receipts, b"2", 249, 1.0) is None
    assert pong(receipts, b"1", 100, 1.0) == [one]
    assert pong(receipts, b"2", 249, 1.0) is None
    assert len(pong(receipts, b"2", 250, 1.0) or []) == 1


def test_a_ping_is_due_when_something_was_added_and_none_is_in_flight() -> None:
    receipts = Receipts()
    assert not receipts.due
    added(receipts, "1")
    assert receipts.due
    receipts.ping(0, 0.0)
    assert not receipts.due
    added(receipts, "2")
    assert not receipts.due
    pong(receipts, b"1", ALL, 1.0)
    assert receipts.due


def test_what_can_wait_makes_no_ping_due_and_says_by_when_one_is_to_go_out() -> None:
    receipts = Receipts()
    assert receipts.ping_by == 0.0
    one, two = sent("1"), sent("2")
    receipts.add((one,), 10, 7.0)
    receipts.add((two,), 10, 6.5)
    assert (receipts.due, receipts.ping_by) == (False, 7.0)
    receipts.ping(0, 6.0)
    assert receipts.ping_by == 0.0
    assert pong(receipts, b"1", ALL, 6.1) == [one, two]


def test_what_cannot_wait_takes_along_what_can() -> None:
    receipts = Receipts()
    patient = sent("1")
    receipts.add((patient,), 10, 7.0)
    urgent = added(receipts, "2")
    assert receipts.due
    receipts.ping(0, 5.0)
    assert (receipts.due, receipts.ping_by) == (False, 0.0)
    assert pong(receipts, b"1", ALL, 5.1) == [patient, urgent]


def test_what_could_wait_cannot_when_something_else_waits_for_it() -> None:
    receipts = Receipts()
    receipts.hurry()
    assert not receipts.due
    receipts.add((sent("1"),), 10, 7.0)
    receipts.hurry()
    assert receipts.due
    receipts.ping(0, 5.0)
    assert not receipts.due


def test_what_can_wait_makes_a_ping_overdue_behind_four_times_as_much() -> None:
    """A client is not sent more than 128 messages that nothing would confirm."""
    receipts = Receipts()
    for number in range(PING_EVERY_MESSAGES * PATIENT - 1):
        receipts.add((sent(str(number)),), 10, 7.0)
    assert (receipts.due, receipts.overdue) == (False, False)
    receipts.add((sent("one more"),), 10, 7.0)
    assert (receipts.due, receipts.overdue) == (False, True)
    receipts.ping(0, 5.0)
    receipts.add((sent("large"),), PING_EVERY_BYTES * PATIENT, 9.0)
    assert (receipts.overdue, receipts.ping_by) == (True, 9.0)


def test_what_waits_for_its_ping_gets_it_with_what_is_written_shortly_before() -> None:
    receipts = Receipts()
    one, two, three = sent("1"), sent("2"), sent("3")
    assert not rides(receipts, one, 7.0, until=6.9)
    assert receipts.ping_by == 7.0
    assert rides(receipts, two, 99.0, until=7.0)
    receipts.ping(0, 6.5)
    assert not rides(receipts, three, 7.0, until=7.0), "one is in flight"
    assert pong(receipts, b"1", ALL, 6.6) == [one, two]


def test_what_comes_to_many_is_overdue_as_anything_that_can_wait() -> None:
    receipts = Receipts()
    for number in range(PING_EVERY_MESSAGES * PATIENT - 1):
        assert not rides(receipts, sent(str(number)), 7.0, until=0.0)
    assert rides(receipts, sent("one more"), 7.0, until=0.0)


def test_a_pong_leaves_what_came_after_its_ping_to_wait() -> None:
    receipts = Receipts()
    receipts.ping(0, 1.0)
    receipts.add((sent("1"),), 10, 7.0)
    assert pong(receipts, b"1", ALL, 2.0) == []
    assert (receipts.due, receipts.ping_by) == (False, 7.0)


def test_another_ping_is_overdue_behind_32_messages() -> None:
    receipts = Receipts()
    for number in range(PING_EVERY_MESSAGES - 1):
        added(receipts, str(number))
    assert not receipts.overdue
    added(receipts, "32nd")
    assert receipts.overdue
    receipts.ping(0, 0.0)
    assert not receipts.overdue


def test_another_ping_is_overdue_behind_64_kib() -> None:
    receipts = Receipts()
    added(receipts, "1", PING_EVERY_BYTES - 1)
    assert not receipts.overdue
    added(receipts, "2", 1)
    assert receipts.overdue
    receipts.ping(0, 0.0)
    assert not receipts.overdue


def test_the_wait_for_a_pong_begins_with_the_first_ping_and_anew_with_each_pong() -> None:
    receipts = Receipts()
    assert receipts.waits_since is None
    receipts.ping(0, 3.0)
    receipts.ping(0, 4.0)
    assert receipts.waits_since == 3.0
    pong(receipts, b"1", ALL, 7.0)
    assert receipts.waits_since == 7.0
    pong(receipts, b"2", ALL, 8.0)
    assert receipts.waits_since is None


def test_whatever_pongs_come_everything_is_confirmed_once_and_in_order() -> None:
    chance = random.Random(11)
    receipts, written, confirmed, pings = Receipts(), [], [], 0
    for number in range(2000):
        act = chance.random()
        if act < 0.6:
            written.append(added(receipts, str(number)))
        elif act < 0.8:
            receipts.ping(0, 0.0)
            pings += 1
        else:
            confirmed += pong(receipts, b"%d" % chance.randrange(pings + 3), ALL, 0.0) or []
    receipts.ping(0, 0.0)
    confirmed += pong(receipts, b"%d" % (pings + 1), ALL, 0.0) or []
    assert confirmed == written
