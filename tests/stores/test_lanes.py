"""A cluster: each command goes where its key is, and a node's trouble is its own users' alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import pytest
from structlog.testing import capture_logs
from tornado.ioloop import IOLoop

from pushserver.core.errors import StoreError, StoreRefusedError, StoreUnavailableError
from pushserver.stores import lanes
from pushserver.stores.category_store import CategoryStore
from pushserver.stores.cluster import slot_of
from pushserver.stores.commands import Commands
from pushserver.stores.content import ContentStore
from pushserver.stores.cursor import CursorStore
from pushserver.stores.exposure_stream import ExposureStream
from pushserver.stores.feed import FeedStore, Reach
from pushserver.stores.feed_entry import Hint, Hints, Kick
from pushserver.stores.inbox import Inbox, Missed
from pushserver.stores.keys import Keys
from pushserver.stores.lease import LeaseStore
from pushserver.stores.log import LogStore
from pushserver.stores.presence import PresenceStore
from pushserver.stores.stream import StreamReader
from tests.engines.redis_cluster import RedisCluster
from tests.engines.redis_server import RedisServer
from tests.engines.scripted_redis import ScriptedRedis
from tests.pod import eventually
from tests.stores.engines import commands_of
from tests.stores.looks import look
from tests.texts import store_text, to_users

USERS = [f"user-{number}" for number in range(60)]
KEY = "{slot}key"
NO_READER = cast(StreamReader, None)
"""Nothing is read here: a reader finds its node by itself."""


async def served(commands: Commands, users: list[str]) -> list[str]:
    """The users whose command was carried out."""
    answers = await asyncio.gather(*(commands.call("INCR", user) for user in users), return_exceptions=True)
    assert all(isinstance(answer, int | StoreError) for answer in answers)
    return [user for user, answer in zip(users, answers, strict=True) if isinstance(answer, int)]


async def all_are_served(commands: Commands) -> bool:
    return await served(commands, USERS) == USERS


async def pings(commands: Commands) -> bool:
    try:
        return bool(await commands.call("PING") == b"PONG")
    except StoreUnavailableError:
        return False


def users_of(cluster: RedisCluster, node: RedisServer) -> list[str]:
    return [user for user in USERS if cluster.node_of(user) is node]


class Event:
    data = b"{}"


# -- no script crosses slots


@pytest.mark.gen_test
async def test_every_method_of_every_store_works_for_users_on_every_node(
    redis_cluster: RedisCluster, keys: Keys
) -> None:
    assert {redis_cluster.node_of(keys.inbox(user)).port for user in USERS} == {
        node.port for node in redis_cluster.nodes
    }
    async with commands_of(redis_cluster.url) as commands:
        await asyncio.gather(
            *(whole_life(commands, keys, user, f"pod-{number}") for number, user in enumerate(USERS))
        )


async def whole_life(commands: Commands, keys: Keys, user: str, pod: str) -> None:
    leases, presence = LeaseStore(commands, keys, pod, 60_000), PresenceStore(commands, keys, pod)
    inbox = Inbox(commands, keys, cap=2, ttl_s=1000, idempotency_s=60)
    contents, stream = ContentStore(commands, keys), ExposureStream(commands, keys.exposures, 1000)
    boot = await leases.new_boot(0)
    await leases.take(boot, {"host": "h"})
    await leases.renew(boot)
    await commands.call("HSET", keys.categories(user), "vip", "[1]")
    assert await CategoryStore(commands, keys).read(user) == {"vip": ("1",)}
    await presence.index_add(boot, [user])
    for message in ("1", "2", "3"):
        await store_text(contents, f"{user}-{message}", "text", 100)
        await contents.read(f"{user}-{message}")
        await inbox.append(user, message, 100)
    first = await presence.write(boot, user, 1000, 10)
    assert first.page is not None
    assert first.page.ids == ["2", "3"]
    await publishing_life(commands, keys, user, pod, boot)
    assert await presence.pods_of(user) == {pod: {"boot": boot, "since": 1000}}
    assert (await look(presence, user)).boot == boot
    assert (await inbox.append(user, "3", 100)).pods == {pod: boot}
    assert [await inbox.blame(user, "2") for _ in range(3)] == [False, False, True]
    await inbox.absolve(user)
    await inbox.told(user, Missed(evicted=1))
    await inbox.settle(user, ["3"])
    await inbox.drop_expired(user, ["3"])
    assert (await inbox.read(user, 10)).missed == Missed(parked=1)
    assert await inbox.waiting(user) == (0, 1)
    await stream.add([Event()])
    await stream.length()
    await stream.finish([entry_id for entry_id, _ in await stream.read_new(pod, 1)])
    await stream.read_pending(pod, 1)
    await stream.claim(pod, 1, 60_000)
    await presence.remove(boot, user)
    await presence.index_remove(boot, [user])
    assert [users async for users in presence.indexed(pod)] == []
    assert pod not in await leases.expired(0)
    assert await leases.claim(pod) == 0
    await leases.forget(pod, boot)
    assert await leases.release(boot)


async def publishing_life(commands: Commands, keys: Keys, user: str, pod: str, boot: int) -> None:
    contents, cursors = ContentStore(commands, keys), CursorStore(commands, keys)
    feeds = FeedStore(commands, keys, NO_READER, pod)
    log = LogStore(commands, keys, NO_READER, max_length=100, retention_s=60, idempotency_s=60)
    live = replace(to_users([user], 1, f"{user}-live"), offline=False)
    assert (await contents.publish(live, 60)).new
    await contents.sent(live.id)
    assert (await contents.publish(live, 60)).sent
    assert await contents.recall(live.id, 60)
    assert await feeds.append(pod, Kick(user)) is Reach.NO_FEED
    assert await feeds.open(boot) is not None
    assert await feeds.append(pod, Hints([Hint(user, 1, "m-1")])) is Reach.TAKEN
    assert await cursors.start(user, 5) == 5
    assert await cursors.move([(user, 7, False)]) == [None]
    assert await cursors.start(user, 5) == 7
    assert await log.append(f"{user}-log", {}, "", 0)
    assert not await log.append(f"{user}-log", {}, "", 0)
    await log.recall(f"{user}-log")
    assert (await log.range()).last > 0


@pytest.mark.gen_test
async def test_a_script_that_did_cross_slots_would_be_refused(redis_cluster: RedisCluster) -> None:
    """So the test above proves something."""
    async with commands_of(redis_cluster.url) as commands:
        with pytest.raises(StoreRefusedError, match="CrossSlot"):
            await commands.script("presence_look", ["{a}", "{b}"], ["f"])


# -- a node in trouble


@pytest.mark.gen_test
async def test_a_node_that_is_down_takes_away_its_own_users_only_and_comes_back_by_itself(
    redis_cluster: RedisCluster,
) -> None:
    """The one in the URL here: once the others are known, it is one of them."""
    down = redis_cluster.nodes[0]
    lost = users_of(redis_cluster, down)
    others = [user for user in USERS if user not in lost]
    async with commands_of(redis_cluster.url, timeout_ms=1500) as commands:
        assert await served(commands, USERS) == USERS
        down.kill()
        waiting = [asyncio.ensure_future(served(commands, lost)) for _ in range(5)]
        assert await served(commands, others) == others
        # From when it is known, what has no key goes elsewhere.
        await eventually(lambda: any(lanes.away for lanes in commands._lanes.all))
        for _ in range(20):
            assert await served(commands, others) == others
            assert await commands.call("PING") == b"PONG"
            assert not commands.away
        assert await asyncio.gather(*waiting) == [[]] * 5
        # A master waits two seconds before it serves again.
        await asyncio.to_thread(redis_cluster.start)
        await eventually(lambda: all_are_served(commands))


@pytest.mark.gen_test
async def test_a_node_that_hangs_holds_up_nobody_elses_users(redis_cluster: RedisCluster) -> None:
    hung = redis_cluster.nodes[2]
    stuck = users_of(redis_cluster, hung)
    others = [user for user in USERS if user not in stuck]
    async with commands_of(redis_cluster.url, timeout_ms=2000) as commands:
        assert await served(commands, USERS) == USERS
        hung.freeze()
        waiting = [asyncio.ensure_future(served(commands, stuck)) for _ in range(10)]
        for _ in range(20):
            assert await served(commands, others) == others
        # All of that took less time than one who waits for the node that hangs.
        assert not any(task.done() for task in waiting)
        assert await asyncio.gather(*waiting) == [[]] * 10
        hung.thaw()
        await eventually(lambda: all_are_served(commands))


@pytest.mark.gen_test
async def test_a_command_without_a_key_goes_to_a_node_that_answers(redis_cluster: RedisCluster) -> None:
    async with commands_of(redis_cluster.url, timeout_ms=300) as commands:
        for node in redis_cluster.nodes:
            await eventually(lambda: all_are_served(commands))
            node.freeze()
            assert await served(commands, users_of(redis_cluster, node)) == []
            await eventually(lambda: pings(commands))
            node.thaw()


@pytest.mark.gen_test
async def test_a_cluster_is_away_when_no_node_answers(redis_cluster: RedisCluster) -> None:
    async with commands_of(redis_cluster.url, timeout_ms=750) as commands:
        assert not commands.away
        assert await served(commands, USERS) == USERS
        for node in redis_cluster.nodes:
            node.freeze()
        assert await served(commands, USERS) == []
        # A command's time is over a moment before its pipeline's.
        await eventually(lambda: commands.away)
        redis_cluster.thaw()
        await eventually(lambda: all_are_served(commands))
        assert not commands.away


@pytest.mark.gen_test
async def test_a_cluster_is_away_also_when_some_nodes_are_asked_nothing(redis_cluster: RedisCluster) -> None:
    """A pod at rest talks to the node of its lease only."""
    some = users_of(redis_cluster, redis_cluster.nodes[0])
    async with commands_of(redis_cluster.url, timeout_ms=300) as commands:
        assert await served(commands, USERS) == USERS
        redis_cluster.freeze()

        async def away() -> bool:
            assert await served(commands, some) == []
            return commands.away

        await eventually(away)
        redis_cluster.thaw()

        async def back() -> bool:
            return await served(commands, some) == some

        await eventually(back)
        assert not commands.away


@pytest.mark.gen_test
async def test_each_node_is_taught_its_scripts(redis_cluster: RedisCluster, keys: Keys) -> None:
    async with commands_of(redis_cluster.url) as commands:
        inbox = Inbox(commands, keys, cap=5, ttl_s=1000, idempotency_s=60)
        for message in ("1", "2"):
            appended = await asyncio.gather(*(inbox.append(user, message, 10) for user in USERS))
            assert all(one.new for one in appended)
            await commands.on_each_node("SCRIPT", "FLUSH", "SYNC")


# -- slots that move


@pytest.fixture
def move(redis_cluster: RedisCluster) -> Iterator[Move]:
    """The slot of KEY on its way from a node to another; back where it was at the end."""
    source = redis_cluster.node_of(KEY)
    target = next(node for node in redis_cluster.nodes if node is not source)
    slot = slot_of((b"GET", KEY.encode()))
    assert slot is not None
    move = Move(redis_cluster, slot, source, target)
    yield move
    redis_cluster.empty()
    redis_cluster.begin_move(slot, target, source)
    redis_cluster.end_move(slot, source)


@dataclass
class Move:
    cluster: RedisCluster
    slot: int
    source: RedisServer
    target: RedisServer

    def begin(self) -> None:
        self.cluster.begin_move(self.slot, self.source, self.target)

    def migrate(self, key: str) -> None:
        self.cluster.migrate(key, self.source, self.target)

    def end(self) -> None:
        self.cluster.end_move(self.slot, self.target)


@pytest.mark.gen_test
async def test_a_slot_may_move_under_way(redis_cluster: RedisCluster, move: Move) -> None:
    """ASK is followed for the one time, MOVED from then on; nobody notices either."""
    async with commands_of(redis_cluster.url) as commands:
        assert await served(commands, USERS) == USERS
        assert await asyncio.gather(*(commands.call("INCR", f"{KEY}{n}") for n in range(20))) == [1] * 20
        move.begin()
        for number in range(10):
            move.migrate(f"{KEY}{number}")
        assert await asyncio.gather(*(commands.call("INCR", f"{KEY}{n}") for n in range(20))) == [2] * 20
        assert await asyncio.gather(*(commands.call("INCR", f"{KEY}{n}") for n in range(20, 40))) == [1] * 20
        for number in range(10, 20):
            move.migrate(f"{KEY}{number}")
        move.end()
        assert await asyncio.gather(*(commands.call("INCR", f"{KEY}{n}") for n in range(20))) == [3] * 20
        assert await served(commands, USERS) == USERS
    with move.target.client() as redis:
        assert redis.get(f"{KEY}0") == "3"


@pytest.mark.gen_test
async def test_a_script_follows_its_slot_and_is_taught_where_it_is_new(
    redis_cluster: RedisCluster, move: Move
) -> None:
    async with commands_of(redis_cluster.url) as commands:
        assert await commands.script("boot_take", [KEY], [0]) == 1
        move.begin()
        move.migrate(KEY)
        assert await commands.script("boot_take", [KEY], [0]) == 2
        move.end()
        assert await commands.script("boot_take", [KEY], [0]) == 3


@pytest.mark.gen_test
async def test_a_script_whose_keys_are_parted_by_a_move_is_to_be_tried_again(
    redis_cluster: RedisCluster, move: Move
) -> None:
    keys = [f"{KEY}2", KEY, f"{KEY}3"]
    async with commands_of(redis_cluster.url) as commands:
        await commands.call("SET", KEY, "1")
        await commands.call("HSET", f"{KEY}2", "f", "v")
        move.begin()
        move.migrate(KEY)
        with pytest.raises(StoreUnavailableError) as failure:
            await commands.script("presence_look", keys, ["f"])
        assert failure.value.kind == "moved"
        assert not commands.away
        move.migrate(f"{KEY}2")
        move.end()
        assert await commands.script("presence_look", keys, ["f"]) == [1, b"v", 0]


@pytest.mark.gen_test
async def test_nodes_that_name_no_host_are_at_the_host_that_was_asked(redis_cluster: RedisCluster) -> None:
    """As behind an address translation: cluster-preferred-endpoint-type unknown-endpoint."""
    for node in redis_cluster.nodes:
        with node.client() as redis:
            redis.config_set("cluster-preferred-endpoint-type", "unknown-endpoint")
    try:
        async with commands_of(redis_cluster.url) as commands:
            await eventually(lambda: all_are_served(commands))
    finally:
        for node in redis_cluster.nodes:
            with node.client() as redis:
                redis.config_set("cluster-preferred-endpoint-type", "ip")


# -- nodes that come and go


class Scripted:
    """A cluster whose nodes say what a test wants: one of them serves all."""

    def __init__(self) -> None:
        self.nodes = [ScriptedRedis(partial(self._answer, number)) for number in range(3)]
        self.serving = 0
        self.told: int | None = None
        """Whom the map names, if not the one that serves."""

    def _answer(self, number: int, command: list[bytes]) -> bytes:
        if command == [b"CLUSTER", b"SLOTS"]:
            return self._slots()
        if number == self.serving:
            return b":1\r\n"
        return b"-MOVED %d 127.0.0.1:%d\r\n" % (slot_of(command) or 0, self.nodes[self.serving].port)

    def _slots(self) -> bytes:
        port = self.nodes[self.serving if self.told is None else self.told].port
        return b"*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:%d\r\n$2\r\nid\r\n" % port

    @property
    def url(self) -> str:
        return f"redis+cluster://localhost:{self.nodes[0].port}"


@pytest.fixture
def scripted(io_loop: IOLoop) -> Iterator[Scripted]:
    scripted = Scripted()
    for node in scripted.nodes:
        io_loop.run_sync(node.__aenter__)
    yield scripted
    for node in scripted.nodes:
        io_loop.run_sync(lambda node=node: node.__aexit__(None, None, None))


@pytest.mark.gen_test
async def test_nodes_that_serve_nothing_any_more_are_let_go(scripted: Scripted) -> None:
    async with commands_of(scripted.url) as commands:
        for number in (1, 2):
            scripted.serving = number
            await commands.call("INCR", "k")
            idle = [node for node in scripted.nodes if node is not scripted.nodes[number]]
            await eventually(lambda idle=idle: [node.open_connections for node in idle] == [0, 0])  # type: ignore[misc]  # mypy infers no lambda with a default


@pytest.mark.gen_test
async def test_what_waits_for_a_node_that_lost_its_slots_goes_to_the_new_one(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover: nobody says MOVED, for who would is dead."""
    monkeypatch.setattr(lanes, "LEARN_EVERY_S", 0)
    scripted.serving = 1
    async with commands_of(scripted.url, timeout_ms=3000) as commands:
        await commands.call("INCR", "k")
        await eventually(lambda: scripted.nodes[0].open_connections == 0)
        scripted.serving = 2
        await scripted.nodes[1].__aexit__(None, None, None)
        with pytest.raises(StoreUnavailableError):
            await commands.call("INCR", "k")
        assert await asyncio.gather(*(commands.call("INCR", f"k{n}") for n in range(10))) == [1] * 10
        assert not commands.away


@pytest.mark.gen_test
async def test_publishes_that_wait_for_a_node_that_lost_its_slots_go_to_the_new_one(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "LEARN_EVERY_S", 0)
    scripted.serving = 1
    async with commands_of(scripted.url, timeout_ms=3000) as commands:
        await take_boot(commands)
        scripted.serving = 2
        await scripted.nodes[1].__aexit__(None, None, None)
        with pytest.raises(StoreUnavailableError):
            await take_boot(commands)
        assert await asyncio.gather(*(take_boot(commands) for _ in range(10))) == [1] * 10


@pytest.mark.gen_test
async def test_a_node_that_serves_nothing_any_more_is_not_let_go_before_its_publishes_are_answered(
    scripted: Scripted,
) -> None:
    scripted.serving = 1
    async with commands_of(scripted.url) as commands:
        await commands.on_each_node("PING")
        # Together longer than its answer to who serves what.
        scripted.nodes[1]._delay_s = 0.2
        sent = asyncio.gather(*(take_boot(commands) for _ in range(6)))
        await eventually(lambda: any(command[0] == b"EVAL" for command in scripted.nodes[1].commands))
        scripted.serving = 2
        await commands.on_each_node("PING")
        assert not sent.done()
        assert await sent == [1] * 6


async def take_boot(commands: Commands) -> int:
    answer: int = await commands.publish("boot_take", ["k"], [0])
    return answer


@pytest.mark.gen_test
async def test_two_nodes_that_send_to_each_other_are_not_followed_for_ever(scripted: Scripted) -> None:
    scripted.nodes[0]._answer = scripted.nodes[1]._answer = lambda command: (
        b"-MOVED 1 127.0.0.1:%d\r\n" % scripted.nodes[1].port
    )
    async with commands_of(scripted.url) as commands:
        with pytest.raises(StoreUnavailableError) as failure:
            await commands.call("INCR", "k")
    assert failure.value.kind == "moved"
    sent = sum(node.commands.count([b"INCR", b"k"]) for node in scripted.nodes)
    assert sent <= 7


@pytest.mark.gen_test
async def test_the_map_is_not_read_more_than_once_a_second(scripted: Scripted) -> None:
    """However many commands are sent elsewhere: a map that is behind would be read for each."""
    scripted.serving, scripted.told = 2, 1
    async with commands_of(scripted.url) as commands:
        started = time.monotonic()
        for number in range(100):
            assert await commands.call("INCR", f"k{number}") == 1
        took = time.monotonic() - started
        before = scripted.nodes[1].commands.count([b"INCR", b"k"])
        for _ in range(50):
            await commands.call("INCR", "k")
        # Where a slot is was told, whatever the map says.
        assert scripted.nodes[1].commands.count([b"INCR", b"k"]) <= before + 2
    reads = sum(node.commands.count([b"CLUSTER", b"SLOTS"]) for node in scripted.nodes)
    assert 1 <= reads <= 1 + took / lanes.LEARN_EVERY_S


@pytest.mark.gen_test
async def test_a_map_that_makes_no_sense_is_logged_and_commands_go_on(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.serving = 1
    monkeypatch.setattr(scripted, "_slots", lambda: b":1\r\n")
    with capture_logs() as logs:
        async with commands_of(scripted.url) as commands:
            assert await commands.call("INCR", "k") == 1
            await eventually(lambda: logs)
            assert await commands.call("INCR", "k") == 1
    assert [entry["event"] for entry in logs] == ["redis.cluster_map_unread"]
