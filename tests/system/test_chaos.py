"""Faults at random under a crowd and a load: afterwards every promise holds, and presence is exact.

A seed chooses what happens, so a failure can be looked at again:

    TEST_CHAOS_S=300 TEST_CHAOS_SEED=7 pytest -s tests/system/test_chaos.py
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from pushserver.reconcile import Kept, Reconciler
from tests.engines.engine import Engine
from tests.engines.proxy import RedisProxy
from tests.pod import eventually
from tests.system.backend import Backend, backend
from tests.system.crowd import Crowd
from tests.system.faults import LEASE_S, PATIENCE_S, PODS, TIMEOUT_S, Faults
from tests.system.history import History
from tests.system.load import Load, categories_of
from tests.system.probe import Probe
from tests.system.stage import Stage, stage
from tests.system.watch import Watch

pytestmark = pytest.mark.system

FOR_S = float(os.environ.get("TEST_CHAOS_S", "15"))
SHARED = "TEST_CHAOS_S" not in os.environ and "TEST_REDIS" not in os.environ
"""The kinds of faults are shared among the engines, to save time."""
SEED = int(os.environ.get("TEST_CHAOS_SEED", "1"))

USERS = [f"user-{number}" for number in range(200)]
PROBED = USERS[:12]
CROWD = USERS[12:]
GROUPS = 12
"""Each publishes to users of its own, one message after the other, so that their order is known."""
STEADY = 0.4
"""Of the users of the crowd, how many have a device that stays."""
RIGHT_S = 2 + PATIENCE_S
"""When everything is to be right again, a lease after a fault: 2 s, and what a slow machine takes."""
POOL = 10
"""Connections to a node of Redis that a pod at rest may have or not."""
RECORD_S = 87_000
"""How long every message is on record, by default."""
SLOW_S = 0.03
"""What every answer to the slow back end takes."""
SETTINGS: dict[str, dict[str, Any]] = {
    "pod": {"lease_ms": int(LEASE_S * 1000)},
    "redis": {"timeout_ms": int(TIMEOUT_S * 1000)},
    "limits": {"handshakes_per_s": 0, "connections_per_user": 100},
    "inbox": {"rescan_s": 0},
    "delivery": {"ping_interval_s": 4, "ping_timeout_s": 4, "log_confirm_s": 0.5},
}


@dataclass
class Chaos:
    """Everybody who takes part."""

    on: Stage
    chance: random.Random
    faults: Faults
    crowd: Crowd
    watch: Watch
    slow: Backend
    """A back end far away from Redis: between any two of its steps others take theirs."""

    async def go_on(self) -> None:
        """Crowd, load and faults, and after each fault whatever was to become right has to."""
        load = Load(self.on.backend, self.chance)
        work = [load.to_users(CROWD[number::GROUPS]) for number in range(GROUPS)]
        work += [load.to_categories(), load.to_categories(), load.moves(CROWD)]
        work += [guest.run() for guest in self.crowd.guests]
        work += [Probe(user, self.crowd, self.slow, prompt_s=RIGHT_S).run() for user in PROBED]
        try:
            async with asyncio.TaskGroup() as group:
                looking = group.create_task(self.watch.keep_looking())
                for one in work:
                    group.create_task(one)
                await self.have_faults()
                load.over = True
                self.crowd.together.set()
                await self.come_to_rest(load)
                self.crowd.go_home()
                looking.cancel()
        except ExceptionGroup as group_failed:
            # What failed says more than the tree of tasks that it came up through.
            raise first_of(group_failed) from None

    async def have_faults(self) -> None:
        """One after the other: each kind (of this engine's) once, and on until the time is over."""
        # Not before the crowd is there: a fault that meets nobody shows nothing.
        await self.is_right()
        end = time.monotonic() + FOR_S
        deck = self.faults.deck(shared=SHARED)
        while deck or time.monotonic() < end:
            deck = deck or self.faults.deck(shared=SHARED)
            fault, place = deck.pop(), self.chance.randrange(PODS)
            began = time.monotonic()
            await fault(place)
            lasted = time.monotonic() - began
            # What looks right may be so only until a lease runs out, or until what is late arrives.
            await asyncio.sleep(LEASE_S)
            await self.is_right()
            print(f"{time.strftime('%X')} {fault.__name__} {place}: {lasted:.1f} s")

    async def is_right(self) -> None:
        """P5, P1: who stays is present, and gets what was answered, without any rescan."""
        due = self.watch.due({guest.user for guest in self.crowd.steady})
        await self.watch.steady_are_present(RIGHT_S)
        await self.watch.arrived(due, RIGHT_S)

    async def come_to_rest(self, load: Load) -> None:
        """Everybody is there, has everything, and all of it is settled."""
        await self.watch.until(lambda: {guest.user for guest in self.crowd.guests} == set(USERS), RIGHT_S)
        await self.watch.until(self.crowd.all_live, RIGHT_S)
        # The last moves are known everywhere by then: within the heartbeat that finds what was lost.
        await asyncio.sleep(LEASE_S)
        await load.to_halls()
        await self.watch.arrived(self.watch.due(USERS), RIGHT_S)
        await self.watch.until(self.watch.all_is_settled, RIGHT_S)
        await self.watch.until(self.watch.presence_is_exact, RIGHT_S)

    async def adds_up(self) -> None:
        """Whatever was accepted is exposed or waits, by what pods noted and by the events in the stream."""
        users: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
        for _, entry in self.on.redis.xrange("ps:exposures"):
            event = json.loads(entry["data"])
            key = event["message_id"], event["queued_at"]
            users[key] |= {shown["username"] for shown in event["exposures"]}

        def exposed(asked: Mapping[str, int]) -> dict[str, set[str]]:
            return {message_id: users[message_id, queued_at] for message_id, queued_at in asked.items()}

        def counted(since_ms: int) -> dict[str, int]:
            return {message_id: len(who) for (message_id, at), who in users.items() if at >= since_ms}

        kept = Kept(counted, RECORD_S, lambda: int(time.time() * 1000))
        found = await Reconciler(self.on.backend.whereabouts, exposed, kept).period(0, 0)
        assert not found.differing, found.differing[:5]
        assert found.adds_up, found.unknown
        assert found.totals["accepted"] == found.totals["exposed"] > 0
        self.on.history.counts["reconciled"] = found.totals["accepted"]

    async def leave_nothing(self, tasks: int, files: int) -> None:
        """Nobody is there any more: no presence, no key of a dead pod, no task and no descriptor too many."""
        pods = self.faults.pods.values()
        for pod in pods:
            await eventually(lambda: self.watch.at_rest(pod), RIGHT_S)  # noqa: B023 - awaited in its turn
        await self.watch.until(lambda: not self.on.everyone(), RIGHT_S)
        await self.watch.until(lambda: self.watch.names_of_pods() == {pod.name for pod in pods}, RIGHT_S)
        for pod in pods:
            assert (await pod.stats())["tasks"] == tasks
            assert pod.open_files <= files + POOL * len(self.on.engine.nodes)
            assert await pod.metric("pushserver_task_failures_total") == 0


def first_of(error: Exception) -> Exception:
    """The first error at the bottom of a group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def figures(history: History) -> dict[str, int]:
    """What was done and what came of it, in numbers."""
    deliveries = [(line.user, message_id) for line in history.lines for message_id in line.ids]
    return {
        **history.counts,
        "broadcasts": len(history.broadcasts),
        "connections": len(history.lines),
        "deliveries": len(deliveries),
        "deliveries of broadcasts": sum(message_id in history.broadcasts for _, message_id in deliveries),
        "on another connection, too": len(deliveries) - len(set(deliveries)),
        "exposures": len(history.exposed),
        "settled": len(history.settled),
    }


@asynccontextmanager
async def chaos_on(engine: Engine) -> AsyncIterator[Chaos]:
    """Pods that run, users with their categories, and nobody connected yet."""
    chance = random.Random(SEED)
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(RedisProxy(*engine.ports)) for _ in range(PODS + 1)]
        on = await stack.enter_async_context(stage(engine, **SETTINGS))
        slow = await stack.enter_async_context(backend(proxies[-1].url, on.redis, on.history, prefix="s"))
        proxies[-1].delay_s = SLOW_S
        faults = Faults(on, engine, proxies[:PODS], chance)
        crowd = faults.crowd = Crowd(on.history, lambda: list(faults.pods.values()), chance)
        stack.push_async_callback(crowd.vanish)
        for number, user in enumerate(USERS):
            on.history.accepted[user], on.history.categories[user] = [], categories_of(number)
            stored = {kind: json.dumps(values) for kind, values in categories_of(number).items()}
            on.redis.hset(f"ps:categories:{{{user}}}", mapping=stored)
        for number, user in enumerate(CROWD):
            crowd.invite(user, devices=1 + number % 3, steady=chance.random() < STEADY)
        for place in range(PODS):
            await faults.start(place)
        yield Chaos(on, chance, faults, crowd, Watch(on, crowd), slow)


@pytest.mark.gen_test(timeout=400 + 3 * FOR_S)
async def test_whatever_happens_nothing_is_lost_and_presence_comes_right(engine: Engine) -> None:
    """Three pods, 200 users, and whatever can happen to them; the checker judges all of it at the end."""
    async with chaos_on(engine) as chaos:
        pods = list(chaos.faults.pods.values())
        for pod in pods:
            await eventually(lambda: chaos.watch.at_rest(pod))  # noqa: B023 - awaited in its turn
        tasks, files = (await pods[0].stats())["tasks"], max(pod.open_files for pod in pods)
        await chaos.go_on()
        await chaos.leave_nothing(tasks, files)
        await chaos.adds_up()
    for name, count in figures(chaos.on.history).items():
        print(f"{count:8} {name}")
