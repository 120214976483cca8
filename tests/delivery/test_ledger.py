"""The books of a connection, by themselves; how a connection keeps them is in `test_connection`."""

from __future__ import annotations

import pytest

from pushserver.delivery.ledger import Ledger
from pushserver.delivery.live_batch import Entry, as_one
from pushserver.delivery.sent import INBOX, Sent
from tests.delivery.wire import limits, message

ALL = 10**9
"""The kernel has taken everything."""


def sent(message_id: str, place: int = INBOX) -> Sent:
    return Sent(message(message_id), place, "live", 1000)


def entry(*places: int) -> Entry:
    items = [sent(f"m-{place}", place) for place in places]
    return Entry(items, sum(item.size for item in items))


def ledger(*, ack_mode: bool = False, messages: int = 4, log_at: int = 0) -> Ledger:
    return Ledger(limits(messages=messages), ack_mode=ack_mode, log_at=log_at)


def test_entries_written_down_together_are_as_those_written_down_one_by_one() -> None:
    at_once, one_by_one = ledger(), ledger()
    entries = [entry(1), entry(2, 3)]
    at_once.add_live(as_one(tuple(entries)), 7.0)
    for one in entries:
        one_by_one.add_live(one, 7.0)
    for books in (at_once, one_by_one):
        assert list(books.sent) == ["m-1", "m-2", "m-3"]
        assert (books.unconfirmed, books.log_at, books.receipts.ping_by) == (3, 3, 7.0)
        assert books.unconfirmed_bytes == sum(one.size for one in entries)
        assert [item.id for item in books.in_flight()] == ["m-1", "m-2", "m-3"]


@pytest.mark.parametrize(
    "books, new",
    [(ledger(log_at=5), entry(5, 6)), (ledger(messages=1), entry(6, 7)), (ledger(messages=0), entry(6))],
    ids=["had one", "too many", "no window"],
)
def test_all_of_it_has_room_or_none(books: Ledger, new: Entry) -> None:
    assert not books.has_room_for_all(new)
    assert ledger(log_at=5).has_room_for_all(entry(6, 7))


def test_what_has_the_id_of_something_sent_has_no_room() -> None:
    books = ledger()
    books.add(sent("m-9"), 10, 1.0, 0.0)
    assert not books.has_room_for_all(entry(8, 9))
    assert books.has_room_for_all(entry(8))


def test_what_is_confirmed_and_not_settled_takes_room_as_well() -> None:
    books = ledger(messages=2)
    for number in range(4):
        books.add(sent(f"m-{number}"), 10, 1.0, 0.0)
        books.receipts.ping(0, 1.0)
        assert books.pong(b"%d" % (number + 1), ALL, 1.0)
    assert (books.unconfirmed, books.room(2)) == (0, 0)
    books.forget(["m-0"])
    assert books.room(2) == 1


def test_an_ack_confirms_what_the_kernel_has_taken_and_once() -> None:
    books = ledger(ack_mode=True)
    one, two = sent("m-1"), sent("m-2")
    books.add(one, 10, 1.0, 0.0)
    books.add(two, 20, 1.0, 0.0)
    assert books.ack(["m-1", "m-2", "m-3", 7], 10, 5.0) == [one]
    assert list(books.in_flight()) == [two]
    assert books.ack(["m-1", "m-2"], 20, 6.0) == [two]
    assert (books.unconfirmed, books.unconfirmed_bytes, books.waits_since) == (0, 0, 6.0)


def test_what_settles_while_a_page_is_read_is_forgotten_behind_it() -> None:
    books = ledger()
    books.add(sent("m-1"), 10, 1.0, 0.0)
    books.read_begins()
    books.settled(["m-1"])
    assert list(books.sent) == ["m-1"]
    books.read_over()
    assert books.sent == {}


def test_the_first_of_the_log_is_no_message_of_the_inbox() -> None:
    books = ledger()
    assert books.first_of_log() is None
    books.add(sent("inbox"), 10, 1.0, 0.0)
    assert books.first_of_log() is None
    books.add_live(entry(7, 8), 9.0)
    assert books.first_of_log() == 7


def test_of_an_id_that_comes_again_the_first_keeps_its_place() -> None:
    """The tail may be too short to know it: no cursor passes what stands between the two."""
    books = ledger()
    books.add_live(Entry([sent("again", 1)], 10), 7.0)
    books.add_live(Entry([sent("between", 2), sent("again", 3)], 20), 7.0)
    assert (list(books.sent), books.first_of_log(), books.log_at) == (["again", "between"], 1, 3)
    books.forget(["again"])
    assert books.first_of_log() == 2
    twice = Entry([sent("again", 1), sent("between", 2), sent("again", 3)], 30)
    assert [one.position for one in twice.by_id.values()] == [1, 2]
