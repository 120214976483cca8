"""Sentinel: who is the master of a service, asked anew for each connection, and once a second in use.

Sentinels take some eight seconds to tell a master that it was replaced, if it is alive; what is written to it
until then is lost.

redis-py's own sentinel client is not used: its pool raises when all connections are in use, one READONLY
costs the whole pipeline its answers, it believes the first sentinel that answers, also one that was cut off
from the others, and a sentinel that hangs takes the time that the others would need.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import ReadOnlyError

from pushserver.core.errors import StoreError, StoreUnavailableError
from pushserver.stores.faults import store_error
from pushserver.stores.pool import Pool

__all__ = ["MasterPool", "Sentinels"]

ASK_SHARE = 0.25
"""The part of a command's time that sentinels have to answer; the rest is for the master."""
LOOK_EVERY_S = 1.0
"""How often it is looked, while there are commands, whether the master is still the same."""


class _Master(NamedTuple):
    """Raised by each failover, so that the largest is the latest."""

    epoch: int
    host: str
    port: int


class Sentinels:
    """The sentinels of a service, each by a client of its own."""

    def __init__(self, service: str, clients: Sequence[Redis], *, timeout_s: float) -> None:
        self._service = service
        self._clients = clients
        self._ask_s = timeout_s * ASK_SHARE
        self.latest: tuple[str, int] | None = None
        """What `master` answered last."""

    async def master(self) -> tuple[str, int]:
        """Host and port of the master, by the sentinel that knows of the latest failover.

        Every sentinel is asked, and given the same time. Raises `StoreError` if none answers.
        """
        answers = await asyncio.gather(*map(self._ask, self._clients), return_exceptions=True)
        named = [answer for answer in answers if isinstance(answer, _Master)]
        if not named:
            raise self._fault([store_error(answer) for answer in answers if isinstance(answer, Exception)])
        latest = max(named)
        self.latest = latest.host, latest.port
        return self.latest

    async def _ask(self, client: Redis) -> _Master:
        async with asyncio.timeout(self._ask_s):
            answer: list[bytes] = await client.execute_command("SENTINEL", "MASTER", self._service)  # type: ignore[no-untyped-call]
        fields = dict(zip(answer[::2], answer[1::2], strict=True))
        return _Master(int(fields[b"config-epoch"]), fields[b"ip"].decode(), int(fields[b"port"]))

    def _fault(self, faults: list[StoreError]) -> StoreError:
        """What the sentinels said, a refusal first: that one needs an operator."""
        told = min(faults, key=lambda fault: isinstance(fault, StoreUnavailableError))
        return type(told)(told.kind, f"no sentinel names the master of {self._service}: {told.reason}")

    async def aclose(self) -> None:
        """Close every client."""
        for client in self._clients:
            await client.aclose()


class MasterConnection(Connection):
    """Connects to whoever is the master then, if that one says so, too."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        super().__init__(**options)
        self._sentinels = sentinels

    async def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """Ask who it is, then connect. Nothing if it is connected."""
        if not self.is_connected:
            self.host, self.port = await self._sentinels.master()
        await super().connect_check_health(check_health, retry_socket_connect)

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """What is said first. A master that was demoted meanwhile would answer reads, with what is old."""
        await super().on_connect_check_health(check_health)
        await self.send_command("ROLE", check_health=False)
        role = await self.read_response()
        if role[0] != b"master":
            raise ReadOnlyError("not the master any more, or not yet")


class MasterSSLConnection(MasterConnection, SSLConnection):
    """The same through TLS."""


class MasterPool(Pool):
    """Connections to the master, which are left when it is another; closes those to sentinels as well."""

    def __init__(self, sentinels: Sentinels, *, tls: bool, **options: Any) -> None:
        kind = MasterSSLConnection if tls else MasterConnection
        super().__init__(connection_class=kind, sentinels=sentinels, **options)
        self._sentinels = sentinels
        # Each connection looks by itself when it connects.
        self._look_at = time.monotonic() + LOOK_EVERY_S
        self._looking: asyncio.Task[None] | None = None

    async def ensure_connection(self, connection: Any) -> None:
        """What is done with each connection before its use: here, close it if it leads elsewhere."""
        if not self.leads_right(connection):
            await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)

    def leads_right(self, connection: Any) -> bool:
        """Whether it leads to the master, as far as that is known; sentinels are asked now and then."""
        self._look_soon()
        return bool((connection.host, connection.port) == self._sentinels.latest)

    def _look_soon(self) -> None:
        # Beside the commands: sentinels that hang hold up none.
        if self._looking is None and time.monotonic() >= self._look_at:
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="redis sentinels")

    async def _look(self) -> None:
        try:
            with suppress(StoreError):
                await self._sentinels.master()
        finally:
            self._look_at = time.monotonic() + LOOK_EVERY_S
            self._looking = None

    async def aclose(self) -> None:
        """Close everything."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await super().aclose()
        await self._sentinels.aclose()
