"""Clients that run by themselves and write down what they receive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from pushserver.core.close_codes import CloseCode
from tests.client import Client, Closed, Refused
from tests.pod import eventually
from tests.system.history import History, Line

__all__ = ["Bystander", "Entrance", "Faithful", "Listener", "listen"]


class Entrance(Protocol):
    """Where clients connect: a pod, or a proxy before pods."""

    async def connect(self, user: str, **options: Any) -> Client:
        """Connect as `user`. Raises `Refused` or `OSError`."""


class Listener:
    """One connection, read in the background; pings are answered as long as `client.pongs` says so."""

    def __init__(self, client: Client, line: Line) -> None:
        self.client = client
        self.line = line
        self.live: dict[str, Any] | None = None
        """The `live` frame, once it came."""
        self.frames: list[dict[str, Any]] = []
        """Every frame that is not a message."""
        self.closed: Closed | None = None
        """How it ended."""
        self.over = asyncio.Event()
        self._task = asyncio.ensure_future(self._serve())

    async def _serve(self) -> None:
        try:
            self.closed = await self.client.serve(self._take)
        finally:
            self.client.writer.close()
            self.over.set()

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "message":
            self.line.received.append((frame["id"], time.monotonic()))
            return
        self.frames.append(frame)
        if frame["type"] == "welcome":
            self.line.id = frame["connection"]
        elif frame["type"] == "live":
            self.live = frame

    @property
    def ids(self) -> list[str]:
        """The messages it received."""
        return self.line.ids

    async def ended(self, within_s: float = 10.0) -> Closed:
        """Wait until the server has ended the connection."""
        await eventually(lambda: self.closed, within_s)
        assert self.closed is not None
        return self.closed

    async def leave(self, *, quiet: bool = False) -> None:
        """Close the connection. `quiet`: it answered each ping, and what it received was settled before."""
        self.line.quiet = quiet
        await self.client.close()
        await self._stop()

    async def vanish(self) -> None:
        """Reset the connection. Twice is once."""
        self.client.vanish()
        await self._stop()

    put_away = vanish

    async def _stop(self) -> None:
        self._task.cancel()
        # Not awaited itself: its cancellation could not be told from one of ours.
        await asyncio.wait([self._task])


async def listen(
    pod: Entrance, user: str, history: History, *, pongs: bool = True, **options: Any
) -> Listener:
    """Connect and listen. Raises `Refused` or `OSError`; `options` as of `PodProcess.connect`."""
    line = history.line(user, time.monotonic())
    client = await pod.connect(user, **options)
    client.pongs = pongs
    return Listener(client, line)


class Faithful:
    """A user who always comes back, as any client should: to the next of the pods that answers."""

    COMES_BACK = (None, CloseCode.GOING_AWAY, CloseCode.SERVICE_RESTART, CloseCode.NO_PROGRESS)

    def __init__(self, user: str, history: History, pods: Callable[[], Sequence[Entrance]]) -> None:
        self.user = user
        self._history = history
        self._pods = pods
        self.now: Listener | None = None
        """The connection of the moment."""
        self.connects = 0
        self.refusals = 0
        """Handshakes that were answered by a status."""
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while True:
            for pod in self._pods():
                with suppress(OSError, Closed, TimeoutError):
                    try:
                        self.now = await listen(pod, self.user, self._history)
                    except Refused:
                        self.refusals += 1
                        continue
                    self.connects += 1
                    await self.now.over.wait()
                    assert self.now.closed is not None
                    assert self.now.closed.code in self.COMES_BACK, self.now.closed
            await asyncio.sleep(0.05)

    @property
    def received(self) -> set[str]:
        """Every id that any connection of the user received."""
        return {message_id for line in self._history.of(self.user) for message_id in line.ids}

    async def leave(self) -> None:
        """End it; fails if the server ever closed for another reason than one to come back from."""
        assert not self._task.done(), self._task
        await self._stop()
        if self.now is not None:
            await self.now.leave()

    async def put_away(self) -> None:
        """End it, whatever happened."""
        await self._stop()
        if self.now is not None:
            await self.now.vanish()

    async def _stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


class Bystander:
    """A healthy client that asks `ping` all the time: it stays, and its answers come promptly (P6)."""

    EVERY_S = 0.1

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.slowest_s = 0.0
        """The longest that an answer took."""
        self._task = asyncio.ensure_future(self._ask())

    async def _ask(self) -> None:
        answered = 0
        while True:
            asked_at = time.monotonic()
            await self.listener.client.send({"type": "ping"})
            answered += 1
            while self._pongs() < answered:
                self.slowest_s = max(self.slowest_s, time.monotonic() - asked_at)
                await asyncio.sleep(0.005)
            await asyncio.sleep(self.EVERY_S)

    def _pongs(self) -> int:
        return sum(frame["type"] == "pong" for frame in self.listener.frames)

    async def was_unharmed(self, within_s: float = 2.0) -> None:
        """Fail if its connection ended or an answer took longer than `within_s`; then leave.

        By default less than any outage here lasts, and more than a busy machine holds up a process.
        """
        await self.put_away()
        assert self.listener.closed is None, f"the bystander was closed: {self.listener.closed}"
        assert self.slowest_s < within_s, f"the bystander waited {self.slowest_s:.2f} s"
        await self.listener.leave()

    async def put_away(self) -> None:
        """Ask no more."""
        self._task.cancel()
        await asyncio.wait([self._task])
