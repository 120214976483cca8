"""Faults at random, one after the other, under load: afterwards every promise holds, and presence is exact.

A seed chooses the faults, so a failure can be looked at again:

    TEST_CHAOS_S=60 TEST_CHAOS_SEED=7 pytest tests/system/test_chaos.py
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable, Coroutine

import pytest

from tests.client import Closed, Refused
from tests.engines.proxy import RedisProxy
from tests.engines.redis_server import RedisServer
from tests.pod import eventually
from tests.pod_process import PodProcess
from tests.system.listener import Faithful
from tests.system.stage import BUSY_S, LEASE_S, Stage, meanwhile, stage

pytestmark = pytest.mark.system

FOR_S = float(os.environ.get("TEST_CHAOS_S", "5"))
SEED = int(os.environ.get("TEST_CHAOS_SEED", "1"))
USERS = [f"user-{number}" for number in range(8)]
STEPS = ["inbox_remove", "presence_set", "presence_remove", "lease_renew", "inbox_read", "exposure_add"]


class Chaos:
    """Two pods behind a proxy each, users who always come back and others who flap, and a fault at a time."""

    def __init__(self, on: Stage, server: RedisServer, proxies: list[RedisProxy]) -> None:
        self.on = on
        self.server = server
        self.proxies = proxies
        self.chance = random.Random(SEED)
        self.pods: dict[int, PodProcess] = {}
        self.users: list[Faithful] = []

    async def start(self, number: int) -> None:
        """Start pod `number`, beside one of its name or not."""
        name, url = f"pod-{number + 1}", self.proxies[number].url
        pod = await self.on.pods.start(name, redis_url=url)
        pod.expected_errors = {"exposure.sink_away", "pod.taken_over"}
        self.pods[number] = pod

    def living(self) -> list[PodProcess]:
        """The pods to connect to, in any order."""
        return self.chance.sample([*self.pods.values()], len(self.pods))

    def come(self) -> None:
        """Two devices of each user connect, and come back for ever."""
        self.users = [Faithful(user, self.on.history, self.living) for user in USERS * 2]
        self.on.clients += self.users

    async def flap(self, user: str) -> None:
        """A third device of the user comes and goes, until cancelled."""
        while True:
            for pod in self.living()[:1]:
                try:
                    listener = await self.on.listen(pod, user)
                    try:
                        await self.rest(0.3)
                    finally:
                        await (listener.leave() if self.chance.random() < 0.5 else listener.vanish())
                except (OSError, Refused, Closed, TimeoutError):
                    pass
            await asyncio.sleep(0.02)

    async def rest(self, most_s: float) -> None:
        """A pause of any length up to `most_s`."""
        await asyncio.sleep(self.chance.random() * most_s)

    # -- faults

    async def killed(self, number: int) -> None:
        self.pods.pop(number).kill()
        await self.rest(2)
        await self.start(number)

    async def drained(self, number: int) -> None:
        pod = self.pods.pop(number)
        pod.terminate()
        assert await pod.exit_code() == 0
        await self.start(number)

    async def taken_over(self, number: int) -> None:
        older = self.pods[number]
        older.expected_exit = 3
        await self.start(number)
        assert await older.exit_code() == 3

    async def hung(self, number: int) -> None:
        self.pods[number].freeze()
        await self.rest(3)
        self.pods[number].thaw()

    async def cut(self, number: int) -> None:
        for _ in range(5):
            self.proxies[number].cut()
            await self.rest(0.2)

    async def parted(self, number: int) -> None:
        self.proxies[number].partition()
        await self.rest(3)
        self.proxies[number].heal()

    async def held(self, number: int) -> None:
        step = self.proxies[number].hold(self.chance.choice(STEPS), answers=self.chance.random() < 0.5)
        await self.rest(1)
        (step.drop if self.chance.random() < 0.5 else step.open)()

    async def redis_hung(self, _number: int) -> None:
        self.server.freeze()
        await self.rest(3)
        self.server.thaw()

    async def redis_restarted(self, _number: int) -> None:
        self.server.kill()
        await self.rest(2)
        await asyncio.to_thread(self.server.start)

    async def go_on(self) -> None:
        """One fault after the other."""
        faults: list[Callable[[int], Coroutine[None, None, None]]] = [
            *(self.killed, self.drained, self.taken_over, self.hung, self.cut, self.parted, self.held),
            *(self.redis_hung, self.redis_restarted),
        ]
        end = time.monotonic() + FOR_S
        while time.monotonic() < end:
            fault, number = self.chance.choice(faults), self.chance.randrange(2)
            print(f"{time.strftime('%X')} {fault.__name__} pod-{number + 1}")
            await fault(number)
            await self.rest(1)

    # -- afterwards

    def presence_is_exact(self) -> bool:
        """Whether Redis has just those (user, pod) that have a connection."""
        names = {pod.port: pod.name for pod in self.pods.values()}
        true: dict[str, set[str]] = {}
        for one in self.users:
            if one.now is None or one.now.closed is not None:
                return False
            port = one.now.client.writer.get_extra_info("peername")[1]
            true.setdefault(one.user, set()).add(names[port])
        return self.on.everyone() == true


async def at_rest(pod: PodProcess) -> bool:
    """Whether nothing waits to be written."""
    stats = await pod.stats()
    return not stats["unflushed_presence"] and not stats["settle_waiting"]


@pytest.mark.gen_test(timeout=120 + FOR_S)
async def test_whatever_happens_nothing_is_lost_and_presence_comes_right(redis_server: RedisServer) -> None:
    limits = {"handshakes_per_s": 0, "connections_per_user": 100}
    async with (
        RedisProxy(redis_server.port) as first,
        RedisProxy(redis_server.port) as second,
        stage(redis_server, limits=limits) as on,
    ):
        chaos = Chaos(on, redis_server, [first, second])
        await chaos.start(0)
        await chaos.start(1)
        chaos.come()
        async with meanwhile(
            *(on.backend.keep_sending(user, 0.05) for user in USERS),
            *(chaos.flap(user) for user in USERS[:3]),
        ):
            await chaos.go_on()
        accepted = on.history.accepted
        await eventually(lambda: all(set(accepted[one.user]) <= one.received for one in chaos.users), 15)
        await on.settled(*USERS)
        await eventually(chaos.presence_is_exact, LEASE_S + 2 + BUSY_S)
        for pod in chaos.pods.values():
            await eventually(lambda: at_rest(pod))  # noqa: B023 - awaited in its turn
            assert await pod.metric("pushserver_task_failures_total") == 0
