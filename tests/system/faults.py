"""Faults of pods, of Redis, and of the way between; each returns when it is over.

What is held up on its way to Redis is so for less than a command's time-out, or for longer than a lease, or
is lost: a command that its sender has given up and that arrives all the same within one lease is what only
the rescan mends, and there is none here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence

from tests.engines.engine import Engine
from tests.engines.proxy import RedisProxy
from tests.pod import eventually
from tests.pod_process import PodProcess
from tests.system.crowd import Crowd, Guest
from tests.system.stage import Stage

__all__ = ["LEASE_S", "PODS", "TIMEOUT_S", "Faults"]

PODS = 3
LEASE_S = 3.0
TIMEOUT_S = 0.9
"""Of a command (`redis.timeout_ms`)."""
SHORT_S = TIMEOUT_S / 3
LONG_S = LEASE_S + 2 * TIMEOUT_S
PATIENCE_S = 20.0
"""For what comes about by itself, on a machine of any speed."""
LOST = ["inbox_remove", "presence_set", "presence_remove", "lease_renew", "inbox_read", "exposure_add"]
LOST += ["cursor_move", "cursor_start", "index_add", "content_read", "XREAD", "HGETALL"]
DELAYS_S = (0.0, 0.005, 0.02, 0.06)

Fault = Callable[[int], Coroutine[None, None, None]]


class Faults:
    """Pods behind a proxy each, and what is done to them by chance."""

    def __init__(
        self, on: Stage, engine: Engine, proxies: Sequence[RedisProxy], chance: random.Random
    ) -> None:
        self.pods: dict[int, PodProcess] = {}
        """By place; a place has a proxy, and a pod unless that is away for now."""
        self.crowd: Crowd
        self._on = on
        self._engine = engine
        self._proxies = proxies
        self._chance = chance
        self._names = [f"pod-{number + 1}" for number in range(PODS)]
        self._named = PODS

    async def start(self, place: int) -> None:
        """Start the pod of a place, beside an older process of its name or not."""
        pod = await self._on.pods.start(self._names[place], redis_url=self._proxies[place].url)
        pod.expected_errors = {"exposure.sink_away", "pod.taken_over"}
        self.pods[place] = pod

    def deck(self, *, shared: bool = False) -> list[Fault]:
        """Every kind of fault once, in any order; `shared`: one server and a cluster have some kinds each."""
        of_redis: list[Fault] = [self.redis_hung, self.redis_restarted]
        of_one: list[Fault] = [self.drained, self.taken_over, self.frozen, self.cut, self.delayed]
        # These are about many keys, which a cluster has on different nodes.
        of_many: list[Fault] = [self.killed, self.reaped_late, self.parted, self.lost]
        kinds = of_one + of_many
        if shared:
            kinds = of_one if len(self._engine.nodes) == 1 else of_many
        return self._chance.sample(kinds + of_redis, len(kinds + of_redis))

    # -- pods

    async def killed(self, place: int) -> None:
        """Killed; started again at once under its name, or after a while under another."""
        self._kill(place)
        if self._chance.random() < 0.5:
            self._named += 1
            self._names[place] = f"pod-{self._named}"
            await self._rest(LEASE_S)
        await self.start(place)

    async def reaped_late(self, _place: int) -> None:
        """The fullest is killed and claimed; removals of its presence land when it is back with its users."""
        guests_on = {place: self._steady_on(name) for place, name in enumerate(self._names)}
        place, guests = max(guests_on.items(), key=lambda item: len(item[1]))
        name = self._names[place].encode()
        others = [proxy for number, proxy in enumerate(self._proxies) if number != place]
        held = [
            proxy.hold("presence_remove", only=lambda arguments: arguments[1].endswith(b":" + name))
            for proxy in others
        ]
        for guest in guests:
            guest.home = name.decode()
        self._kill(place)
        await eventually(lambda: any(hold.reached.is_set() for hold in held), PATIENCE_S)
        await self.start(place)
        await eventually(lambda: all(guest.is_live for guest in guests), PATIENCE_S)
        for hold in held:
            hold.open()
        for guest in guests:
            guest.home = ""

    def _steady_on(self, name: str) -> list[Guest]:
        return [guest for guest in self.crowd.steady if guest.is_live and guest.pod == name]

    def _kill(self, place: int) -> None:
        self.pods.pop(place).kill()
        self._on.history.counts["kills of pods"] += 1

    async def drained(self, place: int) -> None:
        """Asked to leave, and started again."""
        pod = self.pods.pop(place)
        pod.terminate()
        assert await pod.exit_code() == 0
        await self.start(place)

    async def taken_over(self, place: int) -> None:
        """Another process of the same name starts beside it."""
        older = self.pods[place]
        older.expected_exit = 3
        await self.start(place)
        assert await older.exit_code() == 3

    async def frozen(self, place: int) -> None:
        """It hangs, for a moment or for longer than its lease."""
        self.pods[place].freeze()
        await asyncio.sleep(self._chance.choice([SHORT_S, LEASE_S / 2, LONG_S]))
        self.pods[place].thaw()

    # -- the way to Redis

    async def cut(self, place: int) -> None:
        """Its connections are reset, some times."""
        for _ in range(5):
            self._proxies[place].cut()
            await self._rest(0.2)

    async def parted(self, place: int) -> None:
        """Nothing goes through, for longer than its lease."""
        self._proxies[place].partition()
        await asyncio.sleep(LONG_S + self._chance.random())
        self._proxies[place].heal()

    async def delayed(self, place: int) -> None:
        """Answers take longer from now on, or less long."""
        self._proxies[place].delay_s = self._chance.choice(DELAYS_S)
        await self._rest(1)

    async def lost(self, place: int) -> None:
        """Steps of several kinds get lost, or their answers."""
        for name in self._chance.sample(LOST, 4):
            hold = self._proxies[place].hold(name, answers=self._chance.random() < 0.5)
            await self._rest(SHORT_S * 2)
            hold.drop()

    # -- Redis

    async def redis_hung(self, _place: int) -> None:
        """It hangs, or a node of it does for a moment; or all of it for longer than every lease."""
        lasts_s = self._chance.choice([SHORT_S, LONG_S])
        # Where one node hangs for longer, what pods have given up there arrives while their leases hold.
        hung = self._engine if lasts_s == LONG_S else self._all_or_one()
        hung.freeze()
        await asyncio.sleep(lasts_s)
        hung.thaw()

    async def redis_restarted(self, _place: int) -> None:
        """It, or a node of it, is killed and started again on its append-only file."""
        self._all_or_one().kill()
        self._on.history.counts["kills of Redis"] += 1
        await self._rest(2)
        await asyncio.to_thread(self._engine.start)

    def _all_or_one(self) -> Engine:
        nodes = self._engine.nodes
        whole = len(nodes) == 1 or self._chance.random() < 0.5
        return self._engine if whole else self._chance.choice(nodes)

    async def _rest(self, most_s: float) -> None:
        await asyncio.sleep(self._chance.random() * most_s)
