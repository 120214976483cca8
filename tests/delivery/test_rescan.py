"""The rescan finds what nobody hinted at and mends what is stale. Everywhere else it is switched off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from pushserver.delivery import rescan as rescan_module
from pushserver.delivery.connection import State
from pushserver.delivery.rescan import Rescan
from pushserver.stores.commands import Argument
from tests.delivery.rig import Rig, rig
from tests.engines.redis_server import RedisServer
from tests.gate import hold, refuse
from tests.pod import eventually
from tests.texts import to_users

FIELD = ("ps:presence:{alice}", "alice:pod-1")


@asynccontextmanager
async def scanned(server: RedisServer, every_s: float) -> AsyncIterator[Rig]:
    """A pod that is rescanned; 0: only when asked."""
    async with rig(server.url, inbox={"rescan_s": every_s}) as on:
        on.app.tasks.spawn(on.app.rescan.run(), "rescan")
        yield on


@pytest.mark.gen_test
async def test_a_message_that_nobody_hinted_at_is_found(redis_server: RedisServer) -> None:
    async with scanned(redis_server, 0.1) as on:
        line = await on.live()
        await on.send("alice", "m-1", "m-2")
        await line.got("m-1", "m-2")
        await line.live()
        assert line.connection.upto == 2


@pytest.mark.gen_test
async def test_an_inbox_that_did_not_change_is_not_read(redis_server: RedisServer) -> None:
    async with scanned(redis_server, 0.05) as on:
        await on.live()
        looks = hold(on.app.stores.commands, "presence_look")
        looks.open()
        reads = hold(on.app.stores.commands, "inbox_read")
        scans = on.counted("redis_round_trips_total")
        await eventually(lambda: on.counted("redis_round_trips_total") > scans + 3)
        assert reads.count == 0


@pytest.mark.gen_test
async def test_presence_that_is_missing_is_written(redis_server: RedisServer) -> None:
    async with scanned(redis_server, 0.1) as on:
        await on.live()
        await on.app.stores.commands.call("HDEL", *FIELD)
        await eventually(lambda: _is(on.present(), 1))


@pytest.mark.gen_test
@pytest.mark.parametrize("field", ["not JSON", '{"boot":0,"since":1}', "[]"])
async def test_presence_that_is_another_boots_or_unreadable_is_written_anew(
    redis_server: RedisServer, field: str
) -> None:
    async with scanned(redis_server, 0.1) as on:
        await on.live()
        await on.app.stores.commands.call("HSET", *FIELD, field)
        await eventually(lambda: _is(on.present(), 1))


async def _is(answer: object, expected: object) -> bool:
    return bool(await answer == expected)  # type: ignore[misc]


@pytest.mark.gen_test
async def test_after_presence_was_mended_the_inbox_is_looked_at(redis_server: RedisServer) -> None:
    """Published after the scan had looked, and before presence was written: nobody was told."""
    async with scanned(redis_server, 0) as on:
        line = await on.live()
        await on.app.stores.commands.call("HDEL", *FIELD)
        write = hold(on.app.stores.commands, "presence_set")
        on.app.rescan.now()
        await write.reached.wait()
        assert (await on.app.publisher.publish(to_users(["alice"], 1, "m-1"))).online == 0
        write.open()
        await line.got("m-1")


@pytest.mark.gen_test
async def test_zero_seconds_mean_only_when_asked(redis_server: RedisServer) -> None:
    async with scanned(redis_server, 0) as on:
        line = await on.live()
        await on.send("alice", "m-1")
        looks = hold(on.app.stores.commands, "presence_look")
        await on.barrier()
        assert looks.count == 0
        on.app.rescan.now()
        await looks.reached.wait()
        looks.open()
        await line.got("m-1")


@pytest.mark.gen_test
async def test_asked_to_look_now_it_looks_at_everyone_whatever_their_sequences_say(
    redis_server: RedisServer,
) -> None:
    """An emptied Redis counts anew: the sequence may be the same by chance, and the messages others."""
    async with scanned(redis_server, 0) as on:
        lines = [await on.live("alice"), await on.live("bob")]
        for line in lines:
            line.connection.upto = 1
        await on.send("alice", "m-1")
        await on.send("bob", "m-2")
        on.app.rescan.now()
        await lines[0].got("m-1")
        await lines[1].got("m-2")


@pytest.mark.gen_test
async def test_asked_in_the_middle_of_a_round_it_begins_anew_with_everyone(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the round had been at already are meant, too."""
    monkeypatch.setattr(rescan_module, "BATCH", 1)
    async with rig(redis_server.url) as on:
        lines = [await on.live(f"user-{number}") for number in range(3)]
        seen: list[str] = []
        scan = Rescan(
            on.app.stores.presence,
            on.app.manager,
            on.app.presence,
            lambda connection: seen.append(connection.user),
            every_s=0.6,
        )
        looks = hold(on.app.stores.commands, "presence_look")
        on.app.tasks.spawn(scan.run(), "rescan")
        await looks.reached.wait()
        looks.open()
        await on.barrier()
        scan.now()
        await eventually(lambda: len(seen) >= 3)
        assert seen == [line.connection.user for line in lines]


@pytest.mark.gen_test
async def test_asked_on_an_empty_pod_it_waits_for_the_first_user(redis_server: RedisServer) -> None:
    async with scanned(redis_server, 0) as on:
        on.app.rescan.now()
        await on.barrier()
        line = await on.live()
        await on.send("alice", "m-1")
        on.app.rescan.now()
        await line.got("m-1")


@pytest.mark.gen_test
async def test_a_connection_that_is_catching_up_is_told_to_look_once_more(redis_server: RedisServer) -> None:
    """Its last read may have been before a hint that was lost."""
    async with scanned(redis_server, 0) as on:
        read = hold(on.app.stores.commands, "inbox_read", answers=True)
        line = await on.live()
        on.app.sessions.look_again(line.connection)
        await read.reached.wait()
        await on.send("alice", "m-1")
        assert line.connection.state is State.CATCHING_UP
        on.app.rescan.now()
        await eventually(lambda: line.connection.wants_look)
        read.open()
        await line.got("m-1")


@pytest.mark.gen_test
async def test_a_user_who_cannot_be_read_is_left_for_the_next_round(redis_server: RedisServer) -> None:
    async with scanned(redis_server, 0.1) as on:
        await on.live("alice")
        line = await on.live("bob")
        fault = refuse(
            on.app.stores.commands, "presence_look", only=lambda arguments: "alice" in str(arguments)
        )
        await on.send("bob", "m-1")
        await line.got("m-1")
        await eventually(lambda: fault.count > 2)


@pytest.mark.gen_test
async def test_a_user_who_cannot_be_mended_is_left_for_the_next_round(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan_module, "MEND_S", 0.05)
    async with scanned(redis_server, 0.1) as on:
        alice, bob = await on.live("alice"), await on.live("bob")
        await on.app.stores.commands.call("HDEL", *FIELD)
        fault = refuse(
            on.app.stores.commands, "presence_set", only=lambda arguments: "alice" in str(arguments)
        )
        await eventually(lambda: fault.count)
        await on.send("bob", "m-1")
        await bob.got("m-1")
        await on.send("alice", "m-2")
        fault.end()
        await alice.got("m-2")
        assert await on.present() == 1


@pytest.mark.gen_test
async def test_an_answer_that_nobody_thought_of_holds_nobody_up(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scanned(redis_server, 0.1) as on:
        odd_one = await on.live("alice")
        line = await on.live("bob")
        scripts = on.app.stores.commands.scripts

        async def odd(name: str, calls: Iterable[tuple[Sequence[str], Sequence[Argument]]]) -> list[object]:
            calls = list(calls)
            answers = await scripts(name, calls)
            return [7 if "alice" in str(call) else one for call, one in zip(calls, answers, strict=True)]

        monkeypatch.setattr(on.app.stores.commands, "scripts", odd)
        with capture_logs() as lines:
            await on.send("bob", "m-1")
            await line.got("m-1")
            await on.send("alice", "m-2")
            await odd_one.got("m-2")
        assert {(one["event"], one.get("user")) for one in lines} == {("rescan.broken", "alice")}


@pytest.mark.gen_test
async def test_all_users_are_looked_at_within_the_time_in_even_batches(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan_module, "BATCH", 2)
    async with rig(redis_server.url) as on:
        for number in range(7):
            await on.live(f"user-{number}")
        loop = asyncio.get_running_loop()
        at: list[float] = []
        looks = on.app.stores.presence.look

        async def noted(users: Sequence[str]) -> object:
            at.extend(loop.time() for _ in users)
            return await looks(users)

        monkeypatch.setattr(on.app.stores.presence, "look", noted)
        scan = Rescan(
            on.app.stores.presence, on.app.manager, on.app.presence, on.app.sessions.look_again, every_s=0.8
        )
        began = loop.time()
        on.app.tasks.spawn(scan.run(), "rescan")
        await eventually(lambda: len(at) >= 7)
        steps = [at[0], at[2], at[4], at[6]]
        assert all(step - began >= 0.1 * number - 0.01 for number, step in enumerate(steps, 1)), [
            step - began for step in steps
        ]
