"""Written stand-ins: a sink that fails as it is told, and a spool in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pushserver.core.errors import EventRefusedError, SinkError, StoreError
from pushserver.exposure.event import Event

__all__ = ["FakeSink", "FakeSpool", "HeldPause", "Pause"]


class FakeSink:
    """Keeps what it accepts. While `error` is set it raises that; while `held` is clear it hangs."""

    def __init__(self) -> None:
        self.accepted: list[Event] = []
        self.asked = 0
        self.error: Exception | None = None
        self.poison: set[str] = set()
        """Messages for which a request is refused."""
        self.held = asyncio.Event()
        self.held.set()
        self.closed = 0

    async def start(self) -> None:
        if self.error is not None:
            raise self.error

    async def publish(self, events: Sequence[Event]) -> None:
        self.asked += 1
        await asyncio.sleep(0)  # as a real one, it does not answer in the turn it is asked
        await self.held.wait()
        if self.error is not None:
            raise self.error
        if self.poison & {event.message_id for event in events}:
            raise EventRefusedError("invalid_argument", "poison")
        self.accepted += events

    async def close(self) -> None:
        """Fails what hangs, as the sinks do."""
        self.closed += 1
        self.error = SinkError("closed", "closed")
        self.held.set()

    @property
    def ids(self) -> list[str]:
        return [event.message_id for event in self.accepted]


class FakeSpool:
    """One consumer's view of the stream; `error` is raised by every method while it is set."""

    def __init__(self, room: int = 1000) -> None:
        self.new: list[tuple[bytes, bytes]] = []
        self.pending: list[tuple[bytes, bytes]] = []
        self.room = room
        self.aside: list[Event] = []
        self.error: StoreError | Exception | None = None
        self.counts: list[int] = []
        self.looks = 0
        self.looked = asyncio.Event()
        self._number = 0

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    async def add(self, events: Sequence[Event]) -> int:
        self._check()
        taken = events[: max(0, self.room - len(self.new) - len(self.pending))]
        for event in taken:
            self._number += 1
            self.new.append((str(self._number).encode(), event.data))
        return len(taken)

    async def read_pending(self, consumer: str, count: int) -> list[tuple[bytes, bytes]]:
        self.looks += 1
        self.looked.set()
        self._check()
        self.counts.append(count)
        return self.pending[:count]

    async def claim(self, consumer: str, count: int, idle_ms: int) -> list[tuple[bytes, bytes]]:
        return []

    async def read_new(self, consumer: str, count: int) -> list[tuple[bytes, bytes]]:
        read, self.new = self.new[:count], self.new[count:]
        self.pending += read
        return read

    async def finish(self, ids: Sequence[bytes]) -> None:
        self.pending = [entry for entry in self.pending if entry[0] not in ids]

    async def set_aside(self, events: Sequence[Event]) -> None:
        self._check()
        self.aside += events

    async def forget_consumers(self, idle_ms: int) -> None:
        self._check()

    @property
    def ids(self) -> list[str]:
        return [Event.from_data(data).message_id for _, data in self.pending + self.new]

    async def next_look(self) -> None:
        self.looked.clear()
        await self.looked.wait()


class Pause:
    """Stands for `asyncio.sleep`: notes what it is asked for and ends when the test says so."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begun = asyncio.Event()
        self._gate: asyncio.Future[None] | None = None

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self._gate = asyncio.get_running_loop().create_future()
        self._begun.set()
        await self._gate

    async def begun(self) -> None:
        """Wait until somebody waits."""
        await self._begun.wait()

    def end(self) -> None:
        assert self._gate is not None, "nobody waits"
        self._begun.clear()
        self._gate.set_result(None)


class HeldPause:
    """Stands for `asyncio.sleep`: short, whatever is asked for; while held, no pause ends."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._free = asyncio.Event()
        self._free.set()

    async def __call__(self, seconds: float) -> None:
        self._begun.set()
        await self._free.wait()
        await asyncio.sleep(min(seconds, 0.02))

    def hold(self) -> None:
        """From now on no pause ends."""
        self._free.clear()
        self._begun.clear()

    async def begun(self) -> None:
        """Wait until somebody pauses who was not pausing when it was held."""
        await self._begun.wait()

    def release(self) -> None:
        """Let every pause end, also those to come: a first try after an outage may fail once more."""
        self._free.set()
