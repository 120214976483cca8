"""Two pods behind a proxy of the web, and what every story about such a one does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from tests.client import Client
from tests.engines.engine import Engine
from tests.engines.web_proxy import WebProxy
from tests.pod import eventually
from tests.pod_process import PodProcess, PodProcesses
from tests.system.listener import Faithful
from tests.system.stage import Stage, stage, together

__all__ = ["FORGED", "Proxied", "proxied"]

FORGED = [(name, "192.0.2.66") for name in ("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "Client-IP")]
"""What a client says of its own address."""

DRAIN = {"spread_s": 1, "timeout_s": 10}


class Proxied:
    """Shortcuts for what the stories do; `stage` for the rest."""

    def __init__(self, on: Stage, proxy: WebProxy) -> None:
        self.stage = on
        self.proxy = proxy

    @property
    def pods(self) -> PodProcesses:
        """The two of them."""
        return self.stage.pods

    def pod(self, name: str) -> PodProcess:
        """The pod of that name."""
        return next(pod for pod in self.pods.all if pod.name == name)

    async def connect(self, user: str, **options: Any) -> Client:
        """A client that nobody reads. Raises `Refused`."""
        return await self.stage.connect(self.proxy, user, **options)

    async def pod_of(self, user: str, *, cookie: str = "", refresh: bool = False, **options: Any) -> str:
        """Where a new connection of the user is led to, with a token made for it; also after a refresh."""
        headers = [("Cookie", f"other=1; pushserver_user={cookie}")] if cookie else []
        client = await self.connect(user, headers=headers, **options)
        pods = {(await client.until("welcome"))[-1]["pod"]}
        if refresh:
            await client.send({"type": "refresh", "token": self.proxy.token(user, 1200)})
            pods.add((await client.until("welcome"))[-1]["pod"])
        await client.close()
        (pod,) = pods
        return str(pod)

    async def address_of(self, user: str, **options: Any) -> str:
        """The address that a message to a client connected so is exposed with; it gets one."""
        listener = await self.stage.live(self.proxy, user, **options)
        message_id = await self.stage.backend.send(user)
        await self.stage.settled(user)
        await listener.leave(quiet=True)
        events = [json.loads(entry["data"]) for _, entry in self.stage.redis.xrange("ps:exposures")]
        (event,) = (one for one in events if one["message_id"] == message_id)
        return str(event["exposures"][0]["client_ip"])

    def faithful(self, user: str) -> Faithful:
        """A user who always comes back."""
        return self.stage.faithful(user, self.proxy)

    async def all_live(self, users: Sequence[Faithful]) -> None:
        """Wait until each has a connection that is caught up."""
        await eventually(lambda: all(one.now is not None and one.now.live for one in users))

    async def everyone_receives(self, users: Sequence[str], by: Sequence[Faithful]) -> None:
        """A message to each arrives."""
        for user, one in zip(users, by, strict=True):
            message_id = await self.stage.backend.send(user)
            await eventually(lambda one=one, message_id=message_id: message_id in one.received)  # type: ignore[misc]  # mypy infers no lambda with a default

    async def users_move_on(self, end: Callable[[PodProcess], None]) -> PodProcess:
        """Users of both pods; one of the pods ends, and is the answer.

        All of them are with the other then, missed nothing and were refused nowhere.
        """
        users = [f"user-{number}" for number in range(12)]
        faithful = [self.faithful(user) for user in users]
        await self.all_live(faithful)
        of = {user: _pod(one) for user, one in zip(users, faithful, strict=True)}
        leaving = self.pod("pod-1")
        assert set(of.values()) == {"pod-1", "pod-2"}
        ended = [one for one in faithful if _pod(one) == "pod-1"]
        # Answers no goodbye: who leaves waits for that, and so is still there for the others to come back to.
        await self.stage.connect(leaving, "unheeding")
        end(leaving)
        for user in users:
            await self.stage.backend.send(user)
        await eventually(lambda: all(_pod(one) == "pod-2" for one in faithful))
        await self.everyone_receives(users, faithful)
        assert {one.connects for one in faithful if one not in ended} == {1}, "who was elsewhere stayed"
        assert {one.connects for one in ended} == {2}
        assert not any(one.refusals for one in faithful), "a handshake was not passed on"
        for one in faithful:
            await one.leave()
        return leaving


def _pod(one: Faithful) -> str:
    """Where a user is connected to at the moment, if they are."""
    if one.now is None or one.now.closed is not None or not one.now.frames:
        return ""
    return str(one.now.frames[0]["pod"])


@asynccontextmanager
async def proxied(
    engine: Engine, make: Callable[[Sequence[tuple[int, int]]], WebProxy]
) -> AsyncIterator[Proxied]:
    """Two pods and a proxy before them; at the end the history is judged."""
    sections: dict[str, dict[str, Any]] = {
        "proxy": {"trusted": ["127.0.0.1"]},
        "auth": {"query_token": True},
        "origin": {"allow": ["https://example.com"]},
        "drain": DRAIN,
    }
    async with stage(engine, **sections) as on:
        pods = await together(*(on.pods.start(name) for name in ("pod-1", "pod-2")))
        proxy = make([(pod.port, pod.admin_port) for pod in pods])
        try:
            proxy.start()
            yield Proxied(on, proxy)
            await on.put_away()
        finally:
            proxy.remove()
