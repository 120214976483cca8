"""A TCP proxy in front of a server, which can hold, cut and refuse what goes through it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

__all__ = ["Link", "TcpProxy"]

CHUNK = 64 * 1024


class TcpProxy:
    """Listens on ports of 127.0.0.1 on the test's loop, one for each of the ports that it forwards to.

    What is done to it is done to all of them. A test that blocks the loop (starting a server) blocks what
    goes through here, too.
    """

    def __init__(self, *target_ports: int) -> None:
        self.ports = dict.fromkeys(target_ports, 0)
        """Its own port by the port behind it."""
        self._servers: list[asyncio.Server] = []
        self._links: set[Link] = set()
        self._passable = asyncio.Event()
        self._passable.set()
        self._refusing = False

    async def __aenter__(self) -> Self:
        for target_port in self.ports:
            accepted = partial(self._accepted, target_port)
            self._servers.append(await asyncio.start_server(accepted, "127.0.0.1", 0))
            self.ports[target_port] = self._servers[-1].sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers:
            server.close()
        # Also who was accepted just now, and is told of in the next turn of the loop.
        self.refuse()
        while self._links:
            await asyncio.wait({link.task for link in self._links})
        for server in self._servers:
            await server.wait_closed()

    @property
    def port(self) -> int:
        """Where to connect to: to any of its ports, the first here."""
        return next(iter(self.ports.values()))

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._links)

    def cut(self) -> None:
        """Reset every connection; new ones are taken."""
        for link in self._links:
            link.task.cancel()

    def partition(self) -> None:
        """Let nothing through any more, in either direction, and connect nobody: packets are lost."""
        self._passable.clear()

    def heal(self) -> None:
        """Let through again, also what was sent meanwhile: it arrives late, as retransmitted packets do."""
        self._passable.set()

    def refuse(self, refusing: bool = True) -> None:
        """Reset every connection, and each new one at once, as if nobody listened."""
        self._refusing = refusing
        if refusing:
            self.cut()

    async def passable(self) -> None:
        """Return when nothing parts the two sides."""
        await self._passable.wait()

    def _accepted(self, target_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        link = self._link(target_port, reader, writer)
        self._links.add(link)
        link.task.add_done_callback(lambda _: self._links.discard(link))

    def _link(self, target_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Link:
        return Link(self, target_port, reader, writer)


class Link:
    """One connection through the proxy."""

    def __init__(
        self,
        proxy: TcpProxy,
        target_port: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.proxy = proxy
        self._target_port = target_port
        self._near = (reader, writer)
        self.task = asyncio.get_running_loop().create_task(self._run(), name="proxy link")
        # Here, too: a task that is cancelled before its first step runs no line.
        self.task.add_done_callback(lambda _: writer.transport.abort())

    async def _run(self) -> None:
        writers = [self._near[1]]
        pumps: list[asyncio.Task[None]] = []
        try:
            await self.proxy.passable()
            far = await asyncio.open_connection("127.0.0.1", self._target_port)
            writers.append(far[1])
            pumps = [
                asyncio.ensure_future(self._forth(self._near[0], far[1])),
                asyncio.ensure_future(self._back(far[0], self._near[1])),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            # Before anything is awaited: a link may be cut while it ends.
            for writer in writers:
                writer.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _forth(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """From who connected to the server; ends with either."""
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                await self.proxy.passable()
                await self.sends(data, writer)
                await writer.drain()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                answered = await self.answers(data)
                await self.proxy.passable()
                writer.write(answered)
                await writer.drain()

    async def sends(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Bytes on their way to the server."""
        writer.write(data)

    async def answers(self, data: bytes) -> bytes:
        """Bytes on their way back: what may go on now."""
        return data
