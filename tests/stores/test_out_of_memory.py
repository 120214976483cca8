"""A Redis that is full: what makes it less full works on, what would make it fuller is refused whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from tornado.ioloop import IOLoop

from pushserver.core.errors import RecalledError, StoreRefusedError
from pushserver.stores.commands import Commands
from pushserver.stores.content import ContentStore
from pushserver.stores.cursor import CursorStore
from pushserver.stores.inbox import Inbox, Missed
from pushserver.stores.keys import Keys
from pushserver.stores.lease import LeaseStore
from pushserver.stores.log import LogStore
from pushserver.stores.presence import PresenceStore
from pushserver.stores.stream import StreamReader
from tests.stores.engines import REAL
from tests.stores.looks import look
from tests.texts import store_text, to_users

pytestmark = pytest.mark.parametrize("commands", REAL, indirect=True)
ABOUT = {"host": "host-1"}


class Memory:
    """Lets the engine be full, each node of it."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    async def fill(self, *, forget_scripts: bool = False) -> None:
        if forget_scripts:
            await self._commands.on_each_node("SCRIPT", "FLUSH", "SYNC")
        await self._commands.on_each_node("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreRefusedError) as failure:
            await self._commands.call("SET", "any", "thing")
        assert failure.value.kind == "oom"

    async def free(self) -> None:
        await self._commands.on_each_node("CONFIG", "SET", "maxmemory", "0")


@pytest.fixture
def memory(io_loop: IOLoop, commands: Commands) -> Iterator[Memory]:
    memory = Memory(commands)
    yield memory
    io_loop.run_sync(memory.free)


@pytest.fixture
def presence(commands: Commands, keys: Keys) -> PresenceStore:
    return PresenceStore(commands, keys, "pod-1")


@pytest.fixture
def inbox(commands: Commands, keys: Keys) -> Inbox:
    return Inbox(commands, keys, cap=5, ttl_s=1000, idempotency_s=60)


@pytest.fixture
def lease(commands: Commands, keys: Keys) -> LeaseStore:
    return LeaseStore(commands, keys, "pod-1", 60_000)


async def dump(commands: Commands, names: list[str]) -> list[Any]:
    return [await commands.call("DUMP", name) for name in names]


@pytest.mark.gen_test
async def test_an_append_is_refused_and_writes_nothing_half(
    commands: Commands, memory: Memory, inbox: Inbox, keys: Keys
) -> None:
    names = [key("alice") for key in (keys.inbox, keys.seq, keys.seen, keys.missed, keys.presence)]
    for number in range(5):
        await inbox.append("alice", str(number), 10)
    before = await dump(commands, names)
    await memory.fill()
    for user, message_id in (("alice", "new"), ("alice", "0"), ("bob", "new")):
        with pytest.raises(StoreRefusedError) as failure:
            await inbox.append(user, message_id, 10)
        assert failure.value.kind == "oom"
    assert await dump(commands, names) == before
    assert await commands.call("EXISTS", keys.inbox("bob")) == 0
    assert not commands.away
    await memory.free()
    assert (await inbox.append("alice", "new", 10)).evicted == 1


@pytest.mark.gen_test
async def test_a_publish_is_refused_and_writes_nothing_half(
    commands: Commands, memory: Memory, keys: Keys
) -> None:
    contents = ContentStore(commands, keys)
    await store_text(contents, "m-1", "text", 100)
    await memory.fill()
    for publication in (to_users(["alice"], 1, "m-2"), replace(to_users(["alice"], 1, "m-3"), offline=False)):
        with pytest.raises(StoreRefusedError) as failure:
            await contents.publish(publication, 100)
        assert failure.value.kind == "oom"
    log = LogStore(commands, keys, cast(StreamReader, None), max_length=10, retention_s=60, idempotency_s=60)
    with pytest.raises(StoreRefusedError) as failure:
        await log.append("m-4", {}, "", 0)
    assert failure.value.kind == "oom"
    stored = await contents.read("m-1")
    assert stored is not None
    assert stored.text == b"text"
    names = [keys.content("m-2"), keys.publish("m-2"), keys.publish("m-3"), keys.log, keys.log_seen]
    assert [await commands.call("EXISTS", name) for name in names] == [0] * len(names)


@pytest.mark.parametrize("forget_scripts", [False, True])
@pytest.mark.gen_test
async def test_what_was_published_is_recalled_and_what_was_sent_to_the_live_is_noted(
    commands: Commands, memory: Memory, keys: Keys, forget_scripts: bool
) -> None:
    contents = ContentStore(commands, keys)
    live = replace(to_users(["alice"], 1, "m-2"), offline=False)
    await contents.publish(to_users(["alice"], 1, "m-1"), 100)
    await contents.publish(live, 100)
    await memory.fill(forget_scripts=forget_scripts)
    await contents.sent("m-2")
    assert await contents.recall("m-1", 100)
    with pytest.raises(RecalledError):
        await contents.read("m-1")
    await memory.free()
    assert (await contents.publish(live, 100)).sent


@pytest.mark.gen_test
async def test_users_keep_their_place_in_the_log(commands: Commands, memory: Memory, keys: Keys) -> None:
    cursors = CursorStore(commands, keys)
    await memory.fill(forget_scripts=True)
    assert await cursors.start("alice", 5) == 5
    assert await cursors.move([("alice", 7, False)]) == [None]
    assert await cursors.start("alice", 5) == 7


@pytest.mark.parametrize("forget_scripts", [False, True])
@pytest.mark.gen_test
async def test_heartbeats_go_on_and_so_do_starts_and_leaves(
    memory: Memory, lease: LeaseStore, commands: Commands, keys: Keys, forget_scripts: bool
) -> None:
    await lease.take(await lease.new_boot(0), ABOUT)
    await memory.fill(forget_scripts=forget_scripts)
    assert (await lease.renew(1)).held
    boot = await lease.new_boot(1)
    assert (await lease.take(boot, ABOUT)).held
    assert (await lease.renew(boot)).held
    other = LeaseStore(commands, keys, "pod-2", 60_000)
    assert (await other.take(await other.new_boot(0), ABOUT)).held
    assert await commands.call("ZCARD", keys.pods) == 2
    assert await lease.release(boot)


@pytest.mark.gen_test
async def test_the_dead_are_reaped(
    memory: Memory, lease: LeaseStore, presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    await lease.take(1, ABOUT)
    await presence.index_add(1, ["alice"])
    await presence.write(1, "alice", 1000, 0)
    await commands.call("HSET", keys.pod("pod-1"), "expires", 1)
    await memory.fill(forget_scripts=True)
    reaper = LeaseStore(commands, keys, "pod-2", 60_000)
    assert await reaper.claim("pod-1") == 1
    assert await PresenceStore(commands, keys, "pod-2").remove(1, "alice", "pod-1")
    await reaper.forget("pod-1", 1)
    assert await presence.pods_of("alice") == {}
    assert await commands.call("EXISTS", keys.pod("pod-1")) == 0


@pytest.mark.gen_test
async def test_users_come_and_go_and_what_they_confirm_is_settled(
    memory: Memory, inbox: Inbox, presence: PresenceStore, commands: Commands, keys: Keys
) -> None:
    await commands.call("HSET", keys.pod("pod-1"), "boot", 1)
    for number in range(6):
        await inbox.append("alice", str(number), 10)
    await memory.fill(forget_scripts=True)
    await presence.index_add(1, ["alice"])
    first = await presence.write(1, "alice", 1000, 10)
    assert first.page is not None
    assert first.page.ids == ["1", "2", "3", "4", "5"]
    assert await inbox.settle("alice", ["1", "2"]) == 2
    assert await inbox.drop_expired("alice", ["3"]) == 1
    assert [await inbox.blame("alice", "4") for _ in range(3)] == [False, False, True]
    await inbox.absolve("alice")
    await inbox.told("alice", Missed(evicted=1))
    page = await inbox.read("alice", 10)
    assert (page.ids, page.missed) == (["5"], Missed(expired=1, parked=1))
    assert (await look(presence, "alice")).boot == 1
    assert await presence.remove(1, "alice")
    await presence.index_remove(1, ["alice"])
    assert await presence.pods_of("alice") == {}
    assert [users async for users in presence.indexed("pod-1")] == []
