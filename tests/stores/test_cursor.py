"""Cursors: written at the first connect, then only moved forward."""

from __future__ import annotations

import asyncio
from unittest.mock import ANY

import pytest

from pushserver.stores.commands import Commands
from pushserver.stores.cursor import CursorStore
from pushserver.stores.keys import CURSOR_TTL_S, Keys
from tests.gate import refuse


@pytest.fixture
def cursors(commands: Commands, keys: Keys) -> CursorStore:
    return CursorStore(commands, keys)


def at(ms: int, seq: int = 0) -> int:
    """A place in the log."""
    return ms << 64 | seq


@pytest.mark.gen_test
async def test_who_is_new_starts_where_the_caller_says_and_who_is_not_where_they_were(
    cursors: CursorStore,
) -> None:
    assert await cursors.start("alice", at(7, 3)) == at(7, 3)
    assert await cursors.start("alice", at(9)) == at(7, 3)
    assert await cursors.start("bob", at(9)) == at(9)


@pytest.mark.gen_test
async def test_a_cursor_is_kept_as_the_id_of_a_log_entry(
    cursors: CursorStore, commands: Commands, keys: Keys
) -> None:
    await cursors.start("alice", at(1_700_000_000_000, 4))
    assert await commands.call("GET", keys.cursor("alice")) == b"1700000000000-4"


@pytest.mark.gen_test
async def test_a_cursor_moves_forward_and_never_back(cursors: CursorStore) -> None:
    await cursors.start("alice", at(7, 10))
    for step, then in (
        (at(7, 9), at(7, 10)),
        (at(6, 99), at(7, 10)),
        (at(7, 11), at(7, 11)),
        (at(10), at(10)),
        (at(9), at(10)),
        # What stands just before the first entry of a millisecond.
        (at(11) - 1, at(11) - 1),
        (at(11), at(11)),
    ):
        await cursors.move([("alice", step, True)])
        assert await cursors.start("alice", 0) == then


@pytest.mark.gen_test
async def test_the_furthest_of_concurrent_moves_stays(cursors: CursorStore) -> None:
    await asyncio.gather(*(cursors.move([("alice", at(5, seq), True)]) for seq in (3, 9, 1, 7)))
    assert await cursors.start("alice", 0) == at(5, 9)


@pytest.mark.gen_test
async def test_many_are_moved_at_once_and_each_has_its_own_answer(
    cursors: CursorStore, commands: Commands
) -> None:
    users = [f"u-{number}" for number in range(1200)]
    assert await cursors.move((user, at(9), True) for user in users) == [None] * 1200
    assert await cursors.move([]) == []
    fault = refuse(commands, "cursor_move", only=lambda arguments: "{u-1}" in str(arguments[0]))
    assert await cursors.move((user, at(10), True) for user in users[:3]) == [None, ANY, None]
    assert fault.count == 1
    assert [await cursors.start(user, 0) for user in users[:3]] == [at(10), at(9), at(10)]


@pytest.mark.gen_test
async def test_each_look_and_each_move_prolongs_a_cursors_life(
    cursors: CursorStore, commands: Commands, keys: Keys
) -> None:
    key = keys.cursor("alice")
    await cursors.start("alice", at(7))
    assert CURSOR_TTL_S - 5 < await commands.call("TTL", key) <= CURSOR_TTL_S
    for step in (
        cursors.start("alice", at(1)),
        cursors.move([("alice", at(8), True)]),
        cursors.move([("alice", at(2), True)]),
    ):
        await commands.call("EXPIRE", key, 10)
        await step
        assert await commands.call("TTL", key) > CURSOR_TTL_S - 5


@pytest.mark.parametrize("foreign", ["", "x", "7", "7-", "-1-2", "7-3x", "1_0-1", "\n7-3"])
@pytest.mark.gen_test
async def test_a_cursor_that_is_no_log_id_is_written_over(
    cursors: CursorStore, commands: Commands, keys: Keys, foreign: str
) -> None:
    """Were it only passed over, each connect would begin at the present, and what came meanwhile be lost."""
    await commands.call("SET", keys.cursor("alice"), foreign)
    assert await cursors.start("alice", at(7)) == at(7)
    assert await cursors.start("alice", at(9)) == at(7)
    await commands.call("SET", keys.cursor("alice"), foreign)
    assert await cursors.move([("alice", at(8), True)]) == [None]
    assert await cursors.start("alice", at(9)) == at(8)


@pytest.mark.gen_test
async def test_a_key_of_another_type_is_written_over(
    cursors: CursorStore, commands: Commands, keys: Keys
) -> None:
    """A move that is refused for ever would hold each drain until its deadline."""
    await commands.call("RPUSH", keys.cursor("alice"), "x")
    assert await cursors.move([("alice", at(8), True)]) == [None]
    assert await cursors.start("alice", at(9)) == at(8)
    await commands.call("DEL", keys.cursor("alice"))
    await commands.call("RPUSH", keys.cursor("alice"), "x")
    assert await cursors.start("alice", at(9)) == at(9)
