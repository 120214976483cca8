"""Watching a crowd: what is settled, what is still to arrive, and whether presence is right."""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from tests.engines.engine import AWAY
from tests.pod_process import PodProcess
from tests.system.crowd import Crowd, Guest
from tests.system.stage import Stage

__all__ = ["Watch"]

EVERY_S = 0.1
WAITING = ("connections", "unflushed_presence", "settle_waiting", "hints_waiting", "cursors_waiting")
"""Figures of a pod that are 0 when nobody is there."""


class Watch:
    """Looks at what Redis and the pods hold."""

    def __init__(self, on: Stage, crowd: Crowd) -> None:
        self._on = on
        self._history = on.history
        self._crowd = crowd

    async def keep_looking(self) -> None:
        """Note what is settled, until cancelled. A Redis that is away is for the next look."""
        while True:
            await asyncio.to_thread(self._look)
            await asyncio.sleep(1)

    def _look(self) -> None:
        with suppress(*AWAY), self._on.engine.client() as redis:
            self._history.look(redis)

    def due(self, users: Iterable[str]) -> dict[str, set[str]]:
        """What these users are to have received by and by."""
        due: dict[str, set[str]] = {}
        lines = self._history.by_user()
        for user in users:
            first = min((line.welcomed_at for line in lines[user]), default=math.inf)
            due[user] = {*self._history.accepted[user], *self._history.owed(user, first)}
        return due

    async def arrived(self, due: Mapping[str, set[str]], within_s: float) -> None:
        """Wait until all of it was received."""
        give_up = time.monotonic() + within_s
        while missing := self._missing(due):
            assert time.monotonic() < give_up, f"not received within {within_s} s: {missing[:5]}"
            await asyncio.sleep(EVERY_S)

    def _missing(self, due: Mapping[str, set[str]]) -> list[tuple[str, set[str]]]:
        lines = self._history.by_user()
        left = (
            (user, ids - {message_id for line in lines[user] for message_id in line.ids})
            for user, ids in due.items()
        )
        return [(user, ids) for user, ids in left if ids]

    async def steady_are_present(self, within_s: float) -> None:
        """Wait until each guest who stays is connected, and present where that is."""
        give_up = time.monotonic() + within_s
        while absent := self._absent():
            assert time.monotonic() < give_up, f"absent for {within_s} s: {absent[:5]}"
            await asyncio.sleep(EVERY_S)

    def _absent(self) -> list[tuple[str, str]]:
        everyone = self._on.everyone()
        return [
            (guest.user, guest.pod if guest.is_live else "connected nowhere")
            for guest in self._crowd.steady
            if not guest.is_live or guest.pod not in everyone.get(guest.user, ())
        ]

    def presence_is_exact(self) -> bool:
        """Whether everybody is connected, and Redis has just those (user, pod)."""
        return self._on.everyone() == _where(self._crowd.guests)

    def all_is_settled(self) -> bool:
        """Whether nothing waits in an inbox, and every cursor is beyond all that the user was owed."""
        self._history.look(self._on.redis)
        if any(map(self._on.inbox, self._history.accepted)):
            return False
        return not any(
            self._history.log.get(message_id, math.inf) > self._history.cursors[user]
            for user, ids in self.due(self._history.categories).items()
            for message_id in ids & self._history.broadcasts.keys()
        )

    def names_of_pods(self) -> set[str]:
        """Every pod of which Redis holds anything."""
        redis = self._on.redis
        keys = [key for kind in ("pod", "pod-users", "feed") for key in redis.keys(f"ps:{kind}:*")]
        return {*redis.zrange("ps:pods", 0, -1), *(key.partition("{")[2].removesuffix("}") for key in keys)}

    @staticmethod
    async def at_rest(pod: PodProcess) -> bool:
        """Whether nothing waits there to be written, and nobody is connected."""
        stats = await pod.stats()
        return not any(stats[name] for name in WAITING)

    @staticmethod
    async def until(condition: Callable[[], bool], within_s: float) -> None:
        """As `eventually`, for conditions that cost something."""
        give_up = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < give_up, f"not true within {within_s} s: {condition}"
            await asyncio.sleep(EVERY_S)


def _where(guests: Iterable[Guest]) -> dict[str, set[str]] | None:
    """User -> pods, by the connections there are; None if somebody is not connected."""
    on: defaultdict[str, set[str]] = defaultdict(set)
    for guest in guests:
        if not guest.is_live:
            return None
        on[guest.user].add(guest.pod)
    return on
