"""A connection: what its window lets out, what confirms it, and what it remembers."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from pushserver.core.frames import ping_frame
from pushserver.core.message import Message
from pushserver.delivery.connection import Connection, State
from pushserver.delivery.live_batch import LiveBatch
from pushserver.delivery.receipts import PATIENT, PING_EVERY_MESSAGES
from pushserver.delivery.sent import LIVE_ONLY
from pushserver.exposure.event import Source
from pushserver.stores.inbox import Missed
from tests.delivery.wire import PING, TEXT, Wire, connection, limits, message, push_live


def messages(count: int, size: int = 1, first: int = 0) -> list[Message]:
    return [message(f"m-{number}", size) for number in range(first, first + count)]


def push(one: Connection, *pushed: Message) -> int:
    return one.push(pushed, "offline", 1000, 5.0)


def pong(one: Connection, payload: bytes, now: float = 6.0) -> list[str] | None:
    """Ids that a pong confirms; None if it was not known."""
    answer = one.pong(payload, now)
    return None if answer is None else [sent.id for sent in answer[0]]


def pong_of(one: Connection) -> list[str] | None:
    """What the pong to a ping confirms that is sent now."""
    one.ping(6.0)
    assert isinstance(one.transport, Wire)
    return pong(one, one.transport.pings[-1])


def traced(work: Callable[[], object]) -> int:
    """Bytes that are still allocated after `work`, with what it answers."""
    gc.collect()
    tracemalloc.start()
    kept = work()
    gc.collect()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept is not None
    return size


# -- the window


def test_the_window_lets_out_its_number_of_messages_and_no_more() -> None:
    one = connection(window=limits(messages=5))
    assert one.room() == 5
    assert push(one, *messages(7)) == 5
    assert one.room() == 0
    assert push(one, *messages(2, first=5)) == 0
    assert list(one.ledger.sent) == [f"m-{number}" for number in range(5)]


def test_the_window_lets_out_its_bytes_and_no_more() -> None:
    frame = len(message("m-0", 100).frame)
    one = connection(window=limits(bytes=3 * frame))
    assert one.ledger.fits(3 * frame)
    assert push(one, *messages(5, 100)) == 3
    assert (one.ledger.unconfirmed_bytes, one.room()) == (3 * frame, 0)


def test_a_message_larger_than_the_window_goes_out_alone() -> None:
    wire = Wire()
    one = connection(wire=wire, window=limits(bytes=1000))
    assert push(one, message("small")) == 1
    assert push(one, message("large", 5000)) == 0
    pong(one, b"1")
    assert push(one, message("large", 5000), message("next")) == 1
    assert wire.ids == ["small", "large"]
    assert one.room() == 0
    assert not one.ledger.fits(1)


def nobody(_message: Message) -> None:
    """Is told of no compressed frame."""


def test_who_negotiated_it_gets_the_very_frame_that_all_of_them_get() -> None:
    compressed, plain = message("m-1", 5000, nobody), message("m-1", 5000)
    wires = [Wire(), Wire(), Wire()]
    for wire, up_to in zip(wires, (100_000, 100_000, 0), strict=True):
        one = connection(wire=wire, deflates_up_to=up_to, ack_mode=True)
        assert push(one, compressed) == 1
        # The window is of what the client has to hold in the end.
        assert one.ledger.unconfirmed_bytes == len(plain.frame)
        assert one.ack(["m-1"], 6.0)
    assert wires[0].writes[0] is wires[1].writes[0] is compressed.deflated(100_000)
    assert wires[2].writes[0] is compressed.frame
    assert wires[0].written < len(plain.frame) / 10


def test_no_more_is_compressed_at_once_than_the_window_holds_plain() -> None:
    told: list[Message] = []
    many = [message(f"m-{number}", 5000, told.append) for number in range(5)]
    one = connection(window=limits(bytes=3 * len(many[0].frame)), deflates_up_to=100_000)
    assert push(one, *many) == 3
    assert told == many[:3]


def test_a_pong_confirms_what_was_compressed_and_a_ping_goes_right_behind_it() -> None:
    wire = Wire()
    one = connection(wire=wire, deflates_up_to=100_000)
    compressed = message("m-1", 5000, nobody)
    assert push(one, compressed) == 1
    assert b"".join(wire.writes) == compressed.deflated(100_000) + ping_frame(b"1")
    assert pong(one, b"1") == ["m-1"]
    wire.stuck = True
    assert push(one, message("m-2", 5000, nobody)) == 1
    assert pong(one, b"2") is None, "the kernel has not taken it"


def test_who_may_have_choked_on_a_content_gets_it_plain() -> None:
    wire = Wire()
    one = connection(wire=wire, deflates_up_to=100_000, ack_mode=True)
    one.suspect = True
    both = [message(name, 5000, nobody) for name in ("m-1", "m-2")]
    assert push(one, both[0]) == 1
    one.ack(["m-1"], 6.0)
    one.suspect = False
    assert push(one, both[1]) == 1
    assert wire.writes == [both[0].frame, both[1].deflated(100_000)]


def test_a_suspect_connection_sends_one_message_at_a_time() -> None:
    one = connection()
    one.suspect = True
    assert push(one, *messages(3)) == 1
    assert one.room() == 0
    pong(one, b"1")
    assert one.room() == 1
    one.suspect = False
    assert one.room() == 256


def test_a_connection_that_becomes_suspect_with_much_in_flight_sends_nothing() -> None:
    one = connection()
    push(one, *messages(3))
    one.suspect = True
    assert one.room() == 0


def test_confirmed_messages_make_room_before_they_are_settled() -> None:
    one = connection(window=limits(messages=2))
    push(one, *messages(2))
    pong(one, b"1")
    assert (one.room(), one.ledger.unconfirmed, one.ledger.unconfirmed_bytes) == (2, 0, 0)
    assert list(one.ledger.sent) == ["m-0", "m-1"]


@pytest.mark.gen_test
async def test_whoever_waits_for_room_goes_on_when_a_frame_of_that_size_fits() -> None:
    frame = len(message("m-0", 100).frame)
    one = connection(window=limits(bytes=2 * frame))
    push(one, message("m-0", 100))
    push(one, message("m-1", 100))
    waits = asyncio.ensure_future(one.wait_for_room(2 * frame))
    pong(one, b"1")  # confirms the first: one frame of room, not two
    await asyncio.sleep(0)
    assert not waits.done()
    pong(one, b"2")
    await waits
    await one.wait_for_room(2 * frame)  # room is there: no wait


@pytest.mark.gen_test
async def test_everybody_who_waits_on_a_connection_is_woken() -> None:
    """One waits for room, one for confirms: both on the same confirm."""
    one = connection(window=limits(messages=1))
    push(one, message("m-0"))
    waits = [asyncio.ensure_future(wait) for wait in (one.wait_for_confirms(), one.wait_for_room(0))]
    await asyncio.sleep(0)
    pong(one, b"1")
    async with asyncio.timeout(5):
        await asyncio.gather(*waits)


@pytest.mark.gen_test
async def test_one_who_waits_no_longer_does_not_end_the_waiting_of_another() -> None:
    one = connection(window=limits(messages=1))
    push(one, message("m-0"))
    gives_up, stays = (asyncio.ensure_future(one.wait_for_room(0)) for _ in range(2))
    await asyncio.sleep(0)
    gives_up.cancel()
    await asyncio.wait([gives_up])
    assert not stays.done()
    pong(one, b"1")
    await stays


@pytest.mark.gen_test
async def test_whoever_waits_is_woken_when_the_connection_closes() -> None:
    one = connection(window=limits(messages=1))
    push(one, message("m-0"))
    waits = [asyncio.ensure_future(wait) for wait in (one.wait_for_confirms(), one.wait_for_room(0))]
    await asyncio.sleep(0)
    one.closed()
    await asyncio.gather(*waits)
    assert one.state is State.CLOSED
    assert not one.is_open()


# -- writing


def test_a_push_is_one_write_with_a_ping_behind_its_frames() -> None:
    wire = Wire()
    one = connection(wire=wire)
    three = messages(3)
    push(one, *three)
    assert wire.writes == [b"".join(each.frame for each in three) + ping_frame(b"1")]


def test_a_long_push_is_one_write_with_a_ping_every_32_messages() -> None:
    wire = Wire()
    push(connection(wire=wire), *messages(70))
    assert len(wire.writes) == 1
    opcodes = [opcode for opcode, _ in wire.frames]
    assert opcodes == [TEXT] * 32 + [PING] + [TEXT] * 32 + [PING] + [TEXT] * 6


def test_a_push_of_large_messages_has_a_ping_every_64_kib() -> None:
    wire = Wire()
    push(connection(wire=wire), *messages(5, 30_000))
    opcodes = [opcode for opcode, _ in wire.frames]
    assert opcodes == [TEXT] * 3 + [PING] + [TEXT] * 2


def test_while_a_ping_is_in_flight_a_few_messages_wait_for_its_pong_to_be_pinged() -> None:
    wire = Wire()
    one = connection(wire=wire)
    push(one, message("m-0"))
    push(one, message("m-1"))
    assert wire.pings == [b"1"]
    assert pong(one, b"1") == ["m-0"]
    assert wire.pings == [b"1", b"2"]
    assert pong(one, b"2") == ["m-1"]
    assert wire.pings == [b"1", b"2"]


def test_nothing_to_push_writes_nothing() -> None:
    wire = Wire()
    assert push(connection(wire=wire)) == 0
    assert wire.writes == []


def test_what_is_sent_remembers_when_and_from_where() -> None:
    one = connection()
    one.push([message("m-0")], "live", 1234, 5.0)
    sent = one.ledger.sent["m-0"]
    assert (sent.source, sent.pushed_at, sent.queued_at) == ("live", 1234, 1_700_000_000_000)
    assert sent.size == len(message("m-0").frame)


# -- confirming


def test_a_pong_confirms_all_that_was_written_before_its_ping() -> None:
    one = connection()
    push(one, *messages(70))
    assert pong(one, b"2") == [f"m-{number}" for number in range(64)]
    assert one.ledger.unconfirmed == 6


def test_a_message_is_confirmed_once() -> None:
    one = connection()
    push(one, message("m-0"))
    assert pong(one, b"1") == ["m-0"]
    assert pong(one, b"1") is None
    assert (one.ledger.unconfirmed, one.ledger.unconfirmed_bytes) == (0, 0)


def test_an_unknown_pong_confirms_nothing() -> None:
    one = connection()
    push(one, message("m-0"))
    assert pong(one, b"7") is None
    assert one.ledger.unconfirmed == 1


def test_what_has_not_left_the_process_is_not_confirmed_by_a_guess() -> None:
    wire = Wire()
    one = connection(wire=wire)
    push(one, *messages(32))
    wire.stuck = True
    push(one, *messages(32, first=32))
    assert wire.pings == [b"1", b"2"]
    assert pong(one, b"2") is None
    assert pong(one, b"1") == [f"m-{number}" for number in range(32)]
    wire.flow()
    assert pong(one, b"2") == [f"m-{number}" for number in range(32, 64)]


def test_a_keepalive_ping_is_of_the_same_sequence_and_confirms_nothing() -> None:
    wire = Wire()
    one = connection(wire=wire)
    one.ping(5.0)
    push(one, message("m-0"))
    assert wire.pings == [b"1"]
    assert pong(one, b"1") == []
    assert wire.pings == [b"1", b"2"]
    assert pong(one, b"2") == ["m-0"]


def test_a_connection_is_stalled_from_its_ping_to_the_pong() -> None:
    one = connection()
    assert one.stalled_since() is None
    one.ping(5.0)
    assert one.stalled_since() == 5.0
    one.pong(b"1", 6.0)
    assert one.stalled_since() is None


def test_the_wait_for_a_confirm_begins_with_the_first_message_and_anew_with_each_confirm() -> None:
    one = connection(ack_mode=True)
    one.push([message("m-0")], "live", 0, 5.0)
    one.push([message("m-1")], "live", 0, 6.0)
    assert one.ledger.waits_since == 5.0
    one.ack(["m-0"], 9.0)
    assert one.ledger.waits_since == 9.0
    one.ack(["m-1"], 10.0)
    one.push([message("m-2")], "live", 0, 20.0)
    assert one.ledger.waits_since == 20.0


def test_what_was_missed_counts_as_told_when_the_pong_after_it_came() -> None:
    wire = Wire()
    one = connection(wire=wire)
    missed = Missed(expired=2)
    one.tell(b"\x81\x02{}", missed, 5.0)
    assert [opcode for opcode, _ in wire.frames] == [TEXT, PING]
    assert len(wire.writes) == 1
    assert one.pong(b"1", 6.0) == ((), missed)
    assert one.pong(b"1", 6.0) is None


def test_telling_that_nothing_was_missed_needs_no_ping() -> None:
    wire = Wire()
    connection(wire=wire).tell(b"\x81\x02{}", Missed(), 5.0)
    assert wire.frames == [(TEXT, b"{}")]


# -- ack mode


def test_in_ack_mode_only_acks_confirm() -> None:
    wire = Wire()
    one = connection(wire=wire, ack_mode=True)
    push(one, *messages(3))
    assert wire.pings == []
    assert [sent.id for sent in one.ack(["m-2", "m-0"], 6.0)] == ["m-2", "m-0"]
    assert one.ledger.unconfirmed == 1
    one.ping(7.0)
    assert one.pong(b"1", 8.0) == ((), None)
    assert one.ledger.unconfirmed == 1


def test_in_ack_mode_a_pong_still_proves_what_was_told() -> None:
    one = connection(ack_mode=True)
    push(one, message("m-0"))
    missed = Missed(evicted=1)
    one.tell(b"\x81\x02{}", missed, 5.0)
    assert one.pong(b"1", 6.0) == ((), missed)


def test_acks_of_what_was_not_sent_here_or_was_confirmed_before_are_left_out() -> None:
    one = connection(ack_mode=True)
    push(one, message("m-0"))
    assert one.ack(["m-9", 7, None, ["m-0"], {"m-0": 1}, "m-0", "m-0"], 6.0) == [one.ledger.sent["m-0"]]
    assert one.ack(["m-0"], 7.0) == []


def test_an_ack_of_what_has_not_left_the_process_can_only_be_a_guess() -> None:
    wire = Wire()
    wire.stuck = True
    one = connection(wire=wire, ack_mode=True)
    push(one, message("m-0"))
    assert one.ack(["m-0"], 6.0) == []
    wire.flow()
    assert [sent.id for sent in one.ack(["m-0"], 7.0)] == ["m-0"]


def test_a_client_that_acks_and_never_answers_a_ping_leaves_nothing_behind() -> None:
    """20 rounds, each as large as the window."""
    wire = Wire()
    one = connection(wire=wire, ack_mode=True)

    def rounds() -> Connection:
        for _ in range(20):
            some = messages(256)
            push(one, *some)
            one.ack([each.id for each in some], 6.0)
            one.settled([each.id for each in some])
            wire.writes.clear()
        return one

    assert traced(rounds) < 100_000  # 900 kB if each message was kept for a pong


# -- alone in flight


def test_only_a_single_unconfirmed_message_is_alone() -> None:
    one = connection()
    assert one.alone_in_flight() is None
    push(one, *messages(32))
    assert one.alone_in_flight() is None
    pong(one, b"1")
    push(one, message("last"))
    assert one.alone_in_flight() is one.ledger.sent["last"]


# -- what is remembered


def test_an_id_is_remembered_until_it_is_settled() -> None:
    one = connection()
    push(one, message("m-0"))
    pong(one, b"1")
    one.read_begins()
    assert one.read_arrived(["m-0", "m-1"]) == ["m-1"]
    one.settled(["m-0"])
    assert one.ledger.sent == {}


def test_an_id_that_settles_while_a_read_is_out_is_remembered_until_it_arrived() -> None:
    one = connection()
    push(one, *messages(2))
    pong(one, b"1")
    one.read_begins()
    one.settled(["m-0"])
    assert one.read_arrived(["m-0", "m-1", "m-2"]) == ["m-2"]
    assert list(one.ledger.sent) == ["m-1"]


def test_an_id_that_settles_while_a_read_is_out_is_forgotten_when_the_read_fails() -> None:
    one = connection()
    push(one, message("m-0"))
    pong(one, b"1")
    one.read_begins()
    one.settled(["m-0"])
    assert list(one.ledger.sent) == ["m-0"]
    one.read_over()
    assert one.ledger.sent == {}


def test_an_id_that_stands_twice_in_a_page_is_news_once() -> None:
    one = connection()
    one.read_begins()
    assert one.read_arrived(["m-1", "m-0", "m-1", "m-0"]) == ["m-1", "m-0"]


def test_a_read_that_begins_answers_the_wish_for_one() -> None:
    one = connection()
    one.wants_look = True
    one.read_begins()
    assert not one.wants_look


def test_settling_what_is_not_known_changes_nothing() -> None:
    one = connection()
    push(one, message("m-0"))
    one.settled(["m-9"])
    assert list(one.ledger.sent) == ["m-0"]


# -- memory


def test_an_idle_connection_holds_little() -> None:
    """With two categories, its name, its id and its part of every exposure; its wire not counted."""
    wire = Wire()

    def thousand() -> list[Connection]:
        return [
            connection(
                f"user-{number}",
                wire=wire,
                categories={"vip": ("3",), "level": ("7",)},
                connection_id=f"id-{number:09}",
            )
            for number in range(1000)
        ]

    assert traced(thousand) / 1000 < 1100


def test_a_connection_that_was_busy_gives_its_memory_back() -> None:
    """As after a full window of offline messages that were all settled."""
    idle = [connection(wire=Wire()) for _ in range(100)]
    some = messages(256)

    def work() -> list[Connection]:
        for one in idle:
            push(one, *some)
            pong(one, b"8")
            one.read_begins()
            one.settled([each.id for each in some])
            one.read_over()
            one.transport.writes.clear()  # type: ignore[attr-defined]
        return idle

    assert traced(work) / 100 < 100


def test_a_connection_has_nothing_but_its_slots() -> None:
    one = connection()
    assert not hasattr(one, "__dict__")
    with pytest.raises(AttributeError):
        one.anything = 1  # type: ignore[attr-defined]


# -- for the live only


def live(**options: Any) -> tuple[Connection, Wire]:
    wire = Wire()
    one = connection(wire=wire, **options)
    one.state = State.LIVE
    return one, wire


def test_a_message_for_the_live_is_written_to_who_is_live() -> None:
    one, wire = live()
    assert one.push_live_only(message("m-1"), 1000, 5.0)
    assert wire.ids == ["m-1"]
    assert (one.ledger.sent["m-1"].position, one.ledger.sent["m-1"].source) == (LIVE_ONLY, "live")
    assert (one.ledger.unconfirmed, one.upto, one.ledger.log_at) == (1, -1, 0)


@pytest.mark.parametrize("state", [State.CATCHING_UP, State.CLOSED])
def test_a_message_for_the_live_is_nothing_to_others(state: State) -> None:
    one, wire = live()
    one.state = state
    assert not one.push_live_only(message("m-1"), 1000, 5.0)
    assert (wire.writes, one.ledger.sent) == ([], {})


def test_a_message_for_the_live_that_is_in_flight_or_has_no_room_is_not_written() -> None:
    one, wire = live(window=limits(messages=2))
    assert push(one, message("m-1")) == 1
    assert not one.push_live_only(message("m-1"), 1000, 5.0)
    assert one.push_live_only(message("m-2"), 1000, 5.0)
    assert not one.push_live_only(message("m-3"), 1000, 5.0)
    assert wire.ids == ["m-1", "m-2"]


def test_the_confirm_of_a_message_for_the_live_may_wait_and_is_spread() -> None:
    """A broadcast's receipts do not all come at once."""
    times = []
    for _ in range(200):
        one, wire = live(window=limits(log_confirm_s=2.0))
        one.push_live_only(message("m-1"), 1000, 5.0)
        assert wire.pings == []
        times.append(one.ping_by)
    assert 6.0 <= min(times) < 6.1
    assert 6.9 < max(times) <= 7.0


def test_a_confirm_that_may_not_wait_is_due_at_once() -> None:
    """As with `delivery.log_confirm_s` of 0: the wheel comes by within a tick."""
    one, _ = live(window=limits(log_confirm_s=0.0))
    one.push_live_only(message("m-1"), 1000, 5.0)
    assert one.ping_by == 5.0


def test_a_message_from_the_inbox_takes_the_ping_of_what_may_wait_along() -> None:
    one, wire = live()
    one.push_live_only(message("m-1"), 1000, 5.0)
    push(one, message("m-2"))
    assert (wire.pings, one.ping_by) == ([b"1"], 0.0)
    assert pong(one, b"1") == ["m-1", "m-2"]


def test_a_pong_brings_the_ping_that_is_due_by_then_and_no_other() -> None:
    one, wire = live()
    one.ping(1.0)
    one.push_live_only(message("m-1"), 1000, 5.0)
    pong(one, b"1", now=one.ping_by - 0.001)
    assert wire.pings == [b"1"]
    one.ping(6.0)
    one.push_live_only(message("m-2"), 1000, 6.0)
    pong(one, b"2", now=one.ping_by)
    assert wire.pings == [b"1", b"2", b"3"]
    assert pong(one, b"3") == ["m-2"]


def test_what_is_forgotten_makes_room_and_may_come_again() -> None:
    one, _ = live(window=limits(messages=1))
    one.push_live_only(message("m-1"), 1000, 5.0)
    one.ping(6.0)
    assert pong(one, b"1") == ["m-1"]
    one.forget(["m-1", "unknown"])
    assert one.ledger.sent == {}
    assert one.push_live_only(message("m-1"), 1000, 5.0)


def test_what_is_forgotten_is_so_also_while_a_page_is_on_its_way() -> None:
    """No page brings it: it is in no inbox."""
    one, _ = live()
    one.push_live_only(message("m-1"), 1000, 5.0)
    one.read_begins()
    one.forget(["m-1"])
    assert one.ledger.sent == {}


# -- what comes to many at once


def batch(*places: int, size: int = 1) -> LiveBatch:
    return LiveBatch([(place, message(f"m-{place}", size)) for place in places], 1000)


def test_what_comes_to_many_is_written_as_it_is_and_kept_as_it_is() -> None:
    one, wire = live()
    two, _ = live()
    both = batch(10, 20)
    assert push_live(one, both, 5.0) is not None
    assert push_live(two, both, 5.0) is not None
    assert wire.writes[-1] is both.frames
    assert wire.ids == ["m-10", "m-20"]
    assert (one.ledger.log_at, one.ledger.unconfirmed, one.ledger.unconfirmed_bytes) == (
        20,
        2,
        both.entry.size,
    )
    assert one.ledger.sent["m-10"] is two.ledger.sent["m-10"]
    assert pong_of(one) == ["m-10", "m-20"]
    assert (one.ledger.unconfirmed, one.ledger.unconfirmed_bytes, two.ledger.unconfirmed) == (0, 0, 2)


def test_what_comes_to_many_is_compressed_for_all_who_take_that_in_one_piece() -> None:
    placed = [(place, message(f"m-{place}", 5000, nobody)) for place in (10, 20)]
    many = LiveBatch(placed, 1000)
    wires = []
    for up_to in (100_000, 100_000, 0, 100):
        one, wire = live(window=limits(log_confirm_s=1000.0))
        one.deflates_up_to = up_to
        assert push_live(one, many, 5.0) is not None
        assert one.ledger.unconfirmed_bytes == many.entry.size
        wires.append(wire)
    assert wires[0].writes[-1] is wires[1].writes[-1]
    assert wires[0].writes[-1] == b"".join(message.deflated(100_000) for _, message in placed)
    assert wires[2].writes[-1] is many.frames
    assert wires[3].writes[-1] == many.frames, "no frame is that small"


def test_a_ping_that_rides_with_compressed_frames_confirms_no_more_than_was_taken() -> None:
    one, wire = live(window=limits(log_confirm_s=0.0))
    one.deflates_up_to = 100_000
    wire.stuck = True
    assert push_live(one, LiveBatch([(10, message("m-10", 5000, nobody))], 1000), 5.0) == 0.0
    assert wire.writes[-1].endswith(ping_frame(b"1"))
    assert pong(one, b"1") is None
    wire.buffered = len(ping_frame(b"1"))
    assert pong(one, b"1") == ["m-10"], "all before the ping has left"


def test_its_ping_is_planned_once_and_rides_with_what_comes_shortly_before_it_is_due() -> None:
    one, wire = live(window=limits(log_confirm_s=2.0))
    planned = push_live(one, batch(10), 5.0)
    assert planned == one.ping_by
    assert planned is not None
    assert 6.0 <= planned <= 7.0
    assert push_live(one, batch(20), planned - 0.51) == 0.0
    assert wire.pings == []
    assert push_live(one, batch(30), planned - 0.49) == 0.0
    assert (wire.pings, one.ping_by, len(wire.writes)) == ([b"1"], 0.0, 3)
    assert pong(one, b"1") == ["m-10", "m-20", "m-30"]


def test_many_that_nothing_confirms_bring_a_ping_along() -> None:
    one, wire = live(window=limits(log_confirm_s=1000.0))
    for place in range(PING_EVERY_MESSAGES * PATIENT - 1):
        push_live(one, batch(place + 1), 5.0)
    assert wire.pings == []
    push_live(one, batch(1000), 5.0)
    assert wire.pings == [b"1"]


@pytest.mark.parametrize(
    "unfit",
    [
        lambda one: setattr(one, "state", State.CATCHING_UP),
        lambda one: setattr(one, "state", State.CLOSED),
        lambda one: setattr(one, "suspect", True),
        lambda one: setattr(one.ledger, "log_at", 10),
        lambda one: push(one, message("m-20")),
        lambda one: push(one, *messages(4)),
        lambda one: push(one, message("large", 900)),
        lambda one: one.ledger.sent.update(dict.fromkeys("abcdefghi")),
    ],
    ids=["catching up", "closed", "suspect", "had one", "same id", "no room", "no bytes", "much unsettled"],
)
def test_who_needs_a_closer_look_is_given_none_of_it(unfit: Callable[[Connection], object]) -> None:
    one, wire = live(window=limits(messages=5, bytes=1000))
    unfit(one)
    before = (len(wire.writes), one.ledger.log_at, one.ledger.unconfirmed, len(one.ledger.sent))
    assert push_live(one, batch(10, 20, size=100), 5.0) is None
    assert (len(wire.writes), one.ledger.log_at, one.ledger.unconfirmed, len(one.ledger.sent)) == before


def test_who_confirms_by_ack_is_given_what_comes_to_many_one_by_one() -> None:
    one = connection(ack_mode=True)
    one.state = State.LIVE
    assert push_live(one, batch(10), 5.0) is None


# -- what comes from the log


def push_log(one: Connection, *places: int, source: Source = "live") -> int:
    entries = [(place, message(f"m-{place}")) for place in places]
    return one.push_log(entries, source, 1000, 5.0)


def test_a_message_of_the_log_has_its_place_and_the_connection_the_last_of_them() -> None:
    one = connection(window=limits(messages=3))
    assert push_log(one, 10, 20, 30, 40) == 3
    assert one.ledger.log_at == 30
    assert [sent.position for sent in one.ledger.sent.values()] == [10, 20, 30]
    assert push_log(one, 40) == 0
    assert one.ledger.log_at == 30


def test_what_comes_live_waits_for_its_ping_and_what_was_waiting_does_not() -> None:
    new, past = connection(wire=Wire()), connection(wire=Wire())
    push_log(new, 10)
    push_log(past, 10, source="log")
    assert 6.0 <= new.ping_by <= 7.0
    assert past.ping_by == 0.0
    assert [len(one.transport.pings) for one in (new, past)] == [0, 1]  # type: ignore[attr-defined]


def test_what_could_wait_is_pinged_at_once_when_more_waits_for_its_room() -> None:
    wire = Wire()
    one = connection(wire=wire, window=limits(messages=2))
    push_log(one, 10, 20)
    assert wire.pings == []
    assert push_log(one, 30) == 0
    assert wire.pings == [b"1"]
    assert push_log(one, 30) == 0
    assert wire.pings == [b"1"]  # one in flight at a time


def test_who_confirms_by_ack_is_not_pinged_for_it() -> None:
    one = connection(wire=Wire(), ack_mode=True)
    push_log(one, 10)
    assert one.ping_by == 0.0
    assert [sent.id for sent in one.ack(["m-10"], 6.0)] == ["m-10"]


def test_the_cursor_stands_before_the_first_that_is_not_settled() -> None:
    one = connection()
    push_log(one, 10, 20, 30, source="log")
    assert one.cursor(99) == 9
    one.forget(["m-20"])
    assert one.cursor(99) == 9
    one.forget(["m-10"])
    assert one.cursor(99) == 29
    one.forget(["m-30"])
    assert one.cursor(99) == 30


def test_of_who_is_live_the_cursor_passes_what_was_for_others() -> None:
    one = connection()
    push_log(one, 10)
    one.forget(["m-10"])
    assert one.cursor(99) == 10
    one.state = State.LIVE
    assert one.cursor(99) == 99
    assert one.cursor(5) == 10
    one.closed()
    assert one.cursor(99) == 10


def test_the_inbox_and_what_is_stored_nowhere_hold_no_cursor_back() -> None:
    one = connection()
    one.state = State.LIVE
    push(one, message("inbox"))
    assert one.push_live_only(message("live only"), 1000, 5.0)
    assert one.cursor(99) == 99


def test_an_id_that_is_there_already_is_not_written_again() -> None:
    """Another program used it twice: the connection must not wait for a confirm that cannot come."""
    wire = Wire()
    one = connection(wire=wire, ack_mode=True)
    push(one, message("m-10"))
    assert push_log(one, 10, 20) == 2
    assert wire.ids == ["m-10", "m-20"]
    assert (one.ledger.log_at, one.ledger.unconfirmed) == (20, 2)
    one.ack(["m-10", "m-20"], 6.0)
    assert (one.ledger.unconfirmed, one.ledger.unconfirmed_bytes) == (0, 0)
