"""One batch to many connections: noted for all of them, then written to all of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from unittest.mock import ANY

import pytest

from pushserver.delivery.connection import Connection, State
from pushserver.delivery.fan_out import push_to_all, write_to_all
from pushserver.delivery.live_batch import NOTED_WEIGHT, LiveBatch
from tests.delivery.wire import Direct, Wire, connection, limits, message

FRAME = b"x" * 100
PATIENT = limits(messages=1000, log_confirm_s=1000.0)


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Four pairs of connected sockets, ours and the client's."""
    made = [socket.socketpair() for _ in range(4)]
    for ours, theirs in made:
        ours.setblocking(False)
        theirs.setblocking(False)
    yield made
    for ours, theirs in made:
        ours.close()
        theirs.close()


def fill(sock: socket.socket) -> None:
    """Write until the kernel takes no more."""
    while True:
        try:
            sock.send(b"-" * 4096)
        except BlockingIOError:
            return


def test_each_descriptor_is_written_to_once_whatever_becomes_of_the_others(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    (one, at_one), (full, _), (gone, away), (last, at_last) = pairs
    fill(full)
    away.close()
    order = [one, full, gone, full, gone, last]
    assert write_to_all([sock.fileno() for sock in order], FRAME) == [100, 0, -1, 0, -1, 100]
    assert (at_one.recv(1000), at_last.recv(1000)) == (FRAME, FRAME)
    assert write_to_all([], FRAME) == []


def test_of_what_the_kernel_takes_in_part_the_size_is_told(
    pairs: list[tuple[socket.socket, socket.socket]],
) -> None:
    [(ours, theirs), *_] = pairs
    large = os.urandom(8 << 20)
    [size] = write_to_all([ours.fileno()], large)
    assert 0 < size < len(large)
    assert theirs.recv(1 << 16) == large[: 1 << 16]


class Some:
    """Live connections with descriptors, and one more behind whatever they are given."""

    def __init__(self, number: int) -> None:
        self.wires = [Direct() for _ in range(number)]
        self.all = [connection(wire=wire, window=PATIENT) for wire in self.wires]
        for one in self.all:
            one.state = State.LIVE
        self._places = count(1)

    def push(self, size: int = 1) -> list[tuple[Connection, float | None]]:
        """Push one message to all of them."""
        place = next(self._places)
        return push_to_all(self.all, LiveBatch([(place, message(f"m-{place}", size))], 1000), 5.0)

    def ids(self) -> list[list[str]]:
        """What came out for each."""
        return [wire.ids for wire in self.wires]


@pytest.fixture
def some() -> Iterator[Some]:
    with ExitStack() as stack:
        made = Some(3)
        for wire in made.wires:
            stack.enter_context(wire)
        yield made


def test_the_first_plans_a_ping_for_each_and_the_next_asks_for_nothing(some: Some) -> None:
    assert some.push() == [(one, ANY) for one in some.all]
    assert some.push() == []
    assert some.ids() == [["m-1", "m-2"]] * 3
    assert [len(one.noted) for one in some.all] == [2, 2, 2]


def test_who_needs_a_closer_look_is_told_and_not_written_to(some: Some) -> None:
    some.push()
    some.all[1].fall_behind(1)
    assert some.push() == [(some.all[1], None)]
    assert some.ids() == [["m-1", "m-2"], ["m-1"], ["m-1", "m-2"]]


def test_who_was_written_to_otherwise_meanwhile_begins_anew(some: Some) -> None:
    some.push()
    some.all[1].ping(5.0)
    assert some.push() == [(some.all[1], ANY)]
    assert some.ids() == [["m-1", "m-2"]] * 3
    assert [len(one.noted) for one in some.all] == [2, 1, 2]


def test_what_did_not_go_out_whole_is_left_to_the_transport_which_finds_it_in_the_books(
    some: Some, monkeypatch: pytest.MonkeyPatch
) -> None:
    some.push()
    told: list[tuple[int, int]] = []
    for wire, one in zip(some.wires, some.all, strict=True):
        monkeypatch.setattr(
            wire, "took", lambda data, taken, one=one: told.append((taken, len(one.noted))), raising=True
        )
    some.wires[0]._theirs.close()
    fill(some.wires[1]._ours)
    some.push()
    assert told == [(-1, 2), (0, 2)]
    assert some.wires[2].ids == ["m-1", "m-2"]


def test_what_weighs_more_fills_the_room_sooner_and_then_all_is_written_down_with_a_ping(some: Some) -> None:
    some.push()
    weight = LiveBatch([(1, message("large", 40_000))], 1000).weight
    assert 2 * weight < NOTED_WEIGHT < 8 * weight
    for _ in range(8):
        some.push(40_000)
        for wire in some.wires:
            wire.drain()
    assert [wire.pings for wire in some.wires] == [[b"1"]] * 3
    assert all(len(one.noted) < NOTED_WEIGHT for one in some.all)


def test_some_without_a_descriptor_are_written_to_by_their_transports(some: Some) -> None:
    wire = Wire()
    plain = connection(wire=wire, window=PATIENT)
    plain.state = State.LIVE
    some.all.insert(1, plain)
    some.push()
    some.push()
    assert wire.ids == ["m-1", "m-2"]
    assert some.ids() == [["m-1", "m-2"]] * 3
    sizes = {one.transport.written for one in some.all if one.ledger.unconfirmed == 2}
    assert len(sizes) == 1


def test_who_takes_compressed_frames_is_given_none_by_the_descriptor() -> None:
    with Direct() as wire:
        one = connection(wire=wire, window=PATIENT, deflates_up_to=100_000)
        one.state = State.LIVE
        batch = LiveBatch([(1, message("m-1", 5000, lambda _: None))], 1000)
        push_to_all([one], batch, 5.0)
        push_to_all([one], LiveBatch([(2, message("m-2"))], 1000), 5.0)
        assert wire.writes[0] == batch.to(100_000) != batch.frames
        assert one.ledger.unconfirmed == 2
        assert one.transport.written == sum(map(len, wire.writes))


def test_where_an_error_leaves_open_who_has_it_all_are_cut(some: Some) -> None:
    """What is in their books would be confirmed by the next pong, whether it was written or not."""

    def fails(_: object) -> None:
        raise MemoryError

    some.push()
    odd = connection(wire=Wire(), window=PATIENT, deflates_up_to=100_000)
    odd.state = State.LIVE
    with pytest.raises(MemoryError):
        push_to_all([odd, *some.all], LiveBatch([(2, message("m-2", 5000, fails))], 1000), 5.0)
    wires = [one.transport for one in (odd, *some.all)]
    assert [wire.aborted for wire in wires if isinstance(wire, Wire)] == [True] * 4


def test_so_it_is_where_one_fails_that_was_looked_at_by_itself(
    some: Some, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: bytes) -> None:
        raise MemoryError

    some.push()
    monkeypatch.setattr(some.wires[1], "write", fails)
    with pytest.raises(MemoryError):
        push_to_all(some.all, LiveBatch([(2, message("m-2"))], 1000, look_closely=True), 5.0)
    assert [wire.aborted for wire in some.wires] == [True] * 3
