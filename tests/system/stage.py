"""What a story of this folder plays on: pods, a back end, one Redis, and the history that is judged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tests.client import Client
from tests.engines.engine import Engine
from tests.pod import eventually
from tests.pod_process import LEASE_MS, PodProcess, PodProcesses, pod_processes
from tests.system.backend import Backend, backend
from tests.system.checker import check
from tests.system.history import History
from tests.system.listener import Bystander, Entrance, Faithful, Listener, listen

__all__ = ["BUSY_S", "LEASE_S", "Stage", "meanwhile", "stage", "together"]

Result = TypeVar("Result")

LEASE_S = LEASE_MS / 1000
"""Of every pod here, unless the story says otherwise."""
BUSY_S = 3.0
"""What a promise about time is allowed on top, for a machine that has other things to do."""


class Stage:
    """Shortcuts for what stories do; `pods`, `backend` and `history` for the rest."""

    def __init__(self, engine: Engine, redis: Any, pods: PodProcesses, sender: Backend) -> None:
        self.engine = engine
        self.pods = pods
        self.backend = sender
        self.history = sender.history
        self.redis = redis
        self.clients: list[Listener | Bystander | Faithful] = []
        """Who is put away at the end."""
        self._raw: list[Client] = []

    # -- what Redis holds

    def inbox(self, user: str) -> list[str]:
        """The ids that wait."""
        ids: list[str] = self.redis.lrange(f"ps:inbox:{{{user}}}", 0, -1)
        return ids

    def presence(self, user: str) -> set[str]:
        """The pods a user is present on."""
        return _pods(user, self.redis.hkeys(f"ps:presence:{{{user}}}"))

    def everyone(self) -> dict[str, set[str]]:
        """User -> pods, of all presence there is."""
        keys = list(self.redis.scan_iter("ps:presence:*", count=1000))
        with self.redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hkeys(key)
            fields = pipeline.execute()
        users = [key.removeprefix("ps:presence:{").removesuffix("}") for key in keys]
        return {user: _pods(user, found) for user, found in zip(users, fields, strict=True)}

    def indexed(self, pod: str) -> set[str]:
        """The users in the index of a pod."""
        return set(self.redis.hkeys(f"ps:pod-users:{{{pod}}}"))

    def keys_of(self, pod: str) -> list[str]:
        """What is there of a pod: its keys, and its place among the pods."""
        keys: list[str] = self.redis.keys(f"ps:*:{{{pod}}}")
        return [*keys, *(["ps:pods"] if self.redis.zscore("ps:pods", pod) is not None else [])]

    def boot(self, pod: str) -> int:
        """The boot that holds the lease of that name; 0 if nobody does."""
        return int(self.redis.hget(f"ps:pod:{{{pod}}}", "boot") or 0)

    async def settled(self, *users: str, within_s: float = 20.0) -> None:
        """Wait until nothing waits for these users any more."""
        await eventually(lambda: not any(map(self.inbox, users)), within_s)

    # -- clients

    async def listen(self, pod: Entrance, user: str, **options: Any) -> Listener:
        """A client of that user. `options` as of `listen`."""
        listener = await listen(pod, user, self.history, **options)
        self.clients.append(listener)
        return listener

    async def connect(self, pod: Entrance, user: str, **options: Any) -> Client:
        """A client of that user that nobody reads. `options` as of `PodProcess.connect`."""
        client = await pod.connect(user, **options)
        self._raw.append(client)
        return client

    async def live(self, pod: Entrance, user: str, **options: Any) -> Listener:
        """A client of that user who is caught up."""
        listener = await self.listen(pod, user, **options)
        await eventually(lambda: listener.live)
        return listener

    async def bystander(self, pod: PodProcess, user: str = "bystander") -> Bystander:
        """A healthy client beside whatever happens."""
        bystander = Bystander(await self.live(pod, user))
        self.clients.append(bystander)
        return bystander

    def faithful(self, user: str, *pods: Entrance) -> Faithful:
        """A user who always comes back."""
        faithful = Faithful(user, self.history, lambda: list(pods))
        self.clients.append(faithful)
        return faithful

    async def reads_all(self, pod: PodProcess, user: str) -> list[str]:
        """The user connects and stays until nothing waits; what came."""
        listener = await self.live(pod, user)
        await self.settled(user)
        await listener.leave(quiet=True)
        return listener.ids

    async def put_away(self) -> None:
        """End every client that is left, whatever happened."""
        for client in reversed(self.clients):
            await client.put_away()
        for raw in self._raw:
            raw.vanish()


def _pods(user: str, fields: list[str]) -> set[str]:
    return {field.removeprefix(f"{user}:") for field in fields}


async def together(*work: Coroutine[Any, Any, Result]) -> list[Result]:
    """Do all of it at once; when one fails, the others are cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
    return [task.result() for task in tasks]


@asynccontextmanager
async def meanwhile(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let work that never ends go on in the background; fails if some of it did end."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield
        assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def stage(engine: Engine, **sections: Mapping[str, Any]) -> AsyncIterator[Stage]:
    """A stage; `sections` are settings of all pods. At the end pods and history are judged."""
    history = History()
    with engine.client() as redis:
        async with (
            backend(engine.url, redis, history) as sender,
            pod_processes(engine.url, **sections) as pods,
        ):
            on_stage = Stage(engine, redis, pods, sender)
            try:
                yield on_stage
            finally:
                await on_stage.put_away()
        history.finish(redis)
    check(history)
