"""Which of the clients' sockets are ready."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from pushserver.web.poller import BYTES_AT_ONCE, EVENTS_AT_ONCE, Poller
from tests.pod import eventually


class Line:
    """A watched socket and its other end; notes what it is told, in `told`, which others may share."""

    def __init__(self, poller: Poller, told: list[tuple[Line, str]]) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)
        self.told = told
        self.on_read: Callable[[], object] = lambda: None
        self.size = 1
        self.poller = poller
        poller.watch(self.ours.fileno(), self)

    def readable(self) -> int:
        self.told.append((self, "readable"))
        self.on_read()
        return self.size

    def writable(self) -> int:
        self.told.append((self, "writable"))
        return 0

    def read(self) -> None:
        """What a decent reader does."""
        self.ours.recv(100)

    def reading(self, then: Callable[[], object]) -> Callable[[], None]:
        """It is read, and `then` is done."""

        def read() -> None:
            self.read()
            then()

        return read

    def close(self) -> None:
        if self.ours.fileno() != -1:
            self.poller.forget(self.ours.fileno())
        self.ours.close()
        self.theirs.close()


Lines = Callable[[], Line]
Told = list[tuple[Line, str]]


@pytest.fixture
def poller(io_loop: object) -> Poller:
    return Poller()


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def line(poller: Poller, told: Told, io_loop: Any) -> Iterator[Lines]:
    lines: list[Line] = []

    def make() -> Line:
        lines.append(Line(poller, told))
        return lines[-1]

    yield make
    for one in lines:
        one.close()


async def turn() -> None:
    """Two turns of the loop: whatever is ready was told."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


@pytest.mark.gen_test
async def test_who_has_something_to_read_is_told_and_nobody_else(line: Lines, told: Told) -> None:
    one, _other = line(), line()
    one.on_read = one.read
    one.theirs.send(b"x")
    await eventually(lambda: told)
    await turn()
    assert told == [(one, "readable")]


@pytest.mark.gen_test
async def test_what_was_not_read_is_told_again(line: Lines, told: Told) -> None:
    one = line()
    one.theirs.send(b"x")
    await eventually(lambda: len(told) > 2)


@pytest.mark.gen_test
async def test_the_end_of_the_other_side_is_something_to_read(line: Lines, told: Told) -> None:
    one = line()
    one.theirs.close()
    await eventually(lambda: (one, "readable") in told)


@pytest.mark.gen_test
async def test_room_to_write_is_told_while_it_is_wanted(poller: Poller, line: Lines, told: Told) -> None:
    one = line()
    await turn()
    assert told == []
    poller.want_to_write(one.ours.fileno(), True)
    await eventually(lambda: (one, "writable") in told)
    poller.want_to_write(one.ours.fileno(), False)
    told.clear()
    await turn()
    assert told == []


@pytest.mark.gen_test
async def test_who_takes_over_a_socket_is_told_instead_of_who_had_it(
    poller: Poller, line: Lines, told: Told
) -> None:
    one, other = line(), line()
    poller.watch(one.ours.fileno(), other)
    other.on_read = one.read
    one.theirs.send(b"x")
    await eventually(lambda: told)
    assert told == [(other, "readable")]
    assert len(poller) == 2


@pytest.mark.gen_test
async def test_who_was_forgotten_is_told_nothing_and_twice_is_once(
    poller: Poller, line: Lines, told: Told
) -> None:
    one = line()
    one.theirs.send(b"x")
    poller.forget(one.ours.fileno())
    poller.forget(one.ours.fileno())
    await turn()
    assert told == []


@pytest.mark.gen_test
async def test_who_is_forgotten_by_another_in_the_same_turn_is_not_told(
    poller: Poller, line: Lines, told: Told
) -> None:
    lines = [line(), line()]
    for one, other in (lines, lines[::-1]):
        one.on_read = one.reading(partial(poller.forget, other.ours.fileno()))
        one.theirs.send(b"x")
    await eventually(lambda: told)
    await turn()
    assert len(told) == 1


@pytest.mark.gen_test
async def test_a_failure_is_the_loops_and_keeps_nobody_else_from_being_told(
    line: Lines, told: Told, io_loop: Any
) -> None:
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    lines = [line(), line()]
    for one in lines:
        one.on_read = one.reading(lambda: 1 / 0)
        one.theirs.send(b"x")
    await eventually(lambda: len(told) == 2)
    assert [type(one["exception"]) for one in failures] == [ZeroDivisionError] * 2


@pytest.mark.gen_test
async def test_of_many_some_are_told_in_one_turn_and_the_others_in_the_next(line: Lines, told: Told) -> None:
    lines = [line() for _ in range(EVENTS_AT_ONCE + 10)]
    for one in lines:
        one.on_read = one.read
        one.theirs.send(b"x")
    turns = []
    while len(told) < len(lines):
        await asyncio.sleep(0)
        turns.append(len(told))
    assert EVENTS_AT_ONCE in turns
    assert {one for one, _ in told} == set(lines)


@pytest.mark.gen_test
async def test_who_sends_much_all_the_time_keeps_nobody_waiting(line: Lines, told: Told) -> None:
    """A turn has room for one of them, and each is told as often as the first."""
    lines = [line() for _ in range(4)]
    for one in lines:
        one.size = BYTES_AT_ONCE
        one.theirs.send(b"x")
    await eventually(lambda: len(told) >= 12)
    often = [sum(1 for by, _ in told if by is one) for one in lines]
    assert max(often) - min(often) <= 1


@pytest.mark.gen_test
async def test_without_anybody_to_watch_the_loop_watches_nothing(poller: Poller, line: Lines) -> None:
    loop = asyncio.get_running_loop()
    before = len(loop._selector.get_map())  # type: ignore[attr-defined]
    one, other = line(), line()
    assert len(loop._selector.get_map()) == before + 1  # type: ignore[attr-defined]
    one.close()
    other.close()
    assert len(loop._selector.get_map()) == before  # type: ignore[attr-defined]
