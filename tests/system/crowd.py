"""A crowd: users whose devices come and go, stall and vanish, and come back after whatever happened."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from pushserver.core.close_codes import CloseCode
from tests.client import Refused
from tests.pod_process import PodProcess
from tests.system.device import Device, connect_device
from tests.system.history import History

__all__ = ["Crowd", "Guest", "elapsed"]

COMES_BACK = (None, CloseCode.GOING_AWAY, CloseCode.SERVICE_RESTART, CloseCode.NO_PROGRESS)
STAYS_S = 6.0
AWAY_S = 4.0
STALLS_S = 6.0
RECONNECTS_S = 0.6


class Guest:
    """One device of a user, from one connection to the next. A steady one leaves only when it is cut."""

    def __init__(self, user: str, crowd: Crowd, *, steady: bool) -> None:
        self.user = user
        self.steady = steady
        self.home = ""
        """The name of the one pod that it connects to; empty: to any."""
        self.device: Device | None = None
        """The connection of the moment, or the last one."""
        self._crowd = crowd

    async def run(self) -> None:
        """Connect and come back until the crowd goes home."""
        while not self._crowd.over.is_set():
            device = await self._crowd.connect(self.user, self.home)
            if device is not None:
                self.device = device
                await self._stay(device)
                # A guest that was closed for another reason would not come back.
                assert device.code in COMES_BACK, f"{self.user} was closed with {device.code}"
            await self._crowd.pause(RECONNECTS_S)

    @property
    def is_live(self) -> bool:
        """It is connected and caught up."""
        return self.device is not None and self.device.live and not self.device.over.is_set()

    @property
    def pod(self) -> str:
        """The name of the pod that it is connected to, or was last."""
        return "" if self.device is None else self.device.pod

    async def _stay(self, device: Device) -> None:
        crowd, chance = self._crowd, self._crowd.chance
        if not self.steady and not await elapsed(device.over, STAYS_S * chance.random(), crowd.together):
            how = chance.random()
            if how < 0.25:
                await self._stall(device, reads=how < 0.12)
            (device.vanish if how < 0.6 else device.leave)()
            crowd.history.counts["gone without a word" if how < 0.6 else "left"] += 1
            await crowd.pause(AWAY_S)
        # Also when it stayed, because the crowd comes together.
        await device.over.wait()

    async def _stall(self, device: Device, *, reads: bool) -> None:
        self._crowd.history.counts["stalled"] += 1
        device.stall(reads=reads)
        await elapsed(device.over, STALLS_S * self._crowd.chance.random(), self._crowd.together)


class Crowd:
    """All guests. `pods` are those to connect to at the moment."""

    def __init__(self, history: History, pods: Callable[[], list[PodProcess]], chance: random.Random) -> None:
        self.history = history
        self.chance = chance
        self.guests: list[Guest] = []
        self.together = asyncio.Event()
        """From now on nobody leaves."""
        self.over = asyncio.Event()
        """From now on nobody comes back."""
        self._pods = pods
        self._devices: list[Device] = []

    def invite(self, user: str, *, devices: int, steady: bool) -> None:
        """A user with so many devices; of a steady one the first stays."""
        self.guests += [Guest(user, self, steady=steady and number == 0) for number in range(devices)]

    async def join(self, user: str) -> None:
        """One more steady guest, until the crowd goes home."""
        guest = Guest(user, self, steady=True)
        self.guests.append(guest)
        await guest.run()

    @property
    def steady(self) -> list[Guest]:
        """Those who leave only when they are cut."""
        return [guest for guest in self.guests if guest.steady]

    def living(self, home: str = "") -> list[PodProcess]:
        """The pods to connect to, in any order."""
        pods = [pod for pod in self._pods() if home in {"", pod.name}]
        return self.chance.sample(pods, len(pods))

    async def connect(self, user: str, home: str = "") -> Device | None:
        """Connect to a pod that takes it; None if none does."""
        for pod in self.living(home):
            try:
                device = await connect_device(pod, user, self.history)
            except (OSError, Refused, TimeoutError):
                self.history.counts["connects refused"] += 1
            else:
                self.history.counts["connects"] += 1
                self._devices.append(device)
                return device
        return None

    async def pause(self, most_s: float) -> None:
        """A pause of any length up to `most_s`; not much of one when everybody is to be there."""
        await elapsed(self.together, most_s * self.chance.random())
        await asyncio.sleep(0.05)

    def all_live(self) -> bool:
        """Every device is connected and caught up."""
        return all(guest.is_live for guest in self.guests)

    def go_home(self) -> None:
        """Everybody leaves, having received and confirmed all that there was."""
        self.over.set()
        for guest in self.guests:
            assert guest.device is not None
            guest.device.line.quiet = not guest.device.over.is_set() and guest.device.pongs
            guest.device.leave()

    async def vanish(self) -> None:
        """Everybody is cut, whatever happened."""
        for device in self._devices:
            device.vanish()
        for device in self._devices:
            await device.over.wait()


async def elapsed(event: asyncio.Event, seconds: float, *others: asyncio.Event) -> bool:
    """Wait so long; True if one of the events came before."""
    waits = [asyncio.ensure_future(one.wait()) for one in (event, *others)]
    try:
        done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return bool(done)
