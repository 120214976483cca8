"""A TCP proxy in front of a server, which can hold, delay, cut and swallow what goes through it.

`TcpProxy` knows bytes only. `RedisProxy` knows Redis' commands, so that a test can hold one step of a pod
that runs as a process: before the command is sent, or its answer after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import hiredis

import pushserver.stores
from pushserver.stores.scripts import script

__all__ = ["Hold", "RedisProxy", "TcpProxy"]

CHUNK = 64 * 1024
_LUA = Path(pushserver.stores.__file__).parent / "lua"


class TcpProxy:
    """Listens on `port` of 127.0.0.1 on the test's loop and forwards to `target_port`.

    A test that blocks the loop (starting a server) blocks what goes through here, too.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self._server: asyncio.Server | None = None
        self._links: set[Link] = set()
        self._passable = asyncio.Event()
        self._passable.set()
        self._refusing = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        # Also who was accepted just now, and is told of in the next turn of the loop.
        self.refuse()
        while self._links:
            await asyncio.wait({link.task for link in self._links})
        await self._server.wait_closed()

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

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        link = self._link(reader, writer)
        self._links.add(link)
        link.task.add_done_callback(lambda _: self._links.discard(link))

    def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Link:
        return Link(self, reader, writer)


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: TcpProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self._near = (reader, writer)
        self.task = asyncio.get_running_loop().create_task(self._run(), name="proxy link")
        # Here, too: a task that is cancelled before its first step runs no line.
        self.task.add_done_callback(lambda _: writer.transport.abort())

    async def _run(self) -> None:
        writers = [self._near[1]]
        pumps: list[asyncio.Task[None]] = []
        try:
            await self.proxy.passable()
            far = await asyncio.open_connection("127.0.0.1", self.proxy.target_port)
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
                await self.answers(data)
                await self.proxy.passable()
                writer.write(data)
                await writer.drain()

    async def sends(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Bytes on their way to the server."""
        writer.write(data)

    async def answers(self, data: bytes) -> None:
        """Bytes on their way back: return when they may go on."""


class Hold:
    """Holds a step of Redis; made by `RedisProxy.hold`.

    `reached` is set when the command is there and was not sent (or, with `answers`, when Redis has answered
    it and nobody knows). Then `open` goes on, or `drop` loses it with its connection.
    """

    def __init__(self, name: str, *, answers: bool, only: Callable[[list[bytes]], bool]) -> None:
        self.reached = asyncio.Event()
        self.answers = answers
        self.count = 0
        """How many steps were held."""
        self._name = name
        self._only = only
        self._held: list[Link] = []
        self._opened = asyncio.Event()

    def is_due(self, name: str, arguments: list[bytes]) -> bool:
        """Whether this command is to be held."""
        return not self._opened.is_set() and name == self._name and self._only(arguments)

    async def wait(self, link: Link) -> None:
        """Hold the link here."""
        self._held.append(link)
        self.count += 1
        self.reached.set()
        await self._opened.wait()

    def open(self) -> None:
        """Let go on what is held, and hold nothing any more."""
        self._opened.set()

    def drop(self) -> None:
        """Reset the connections that are held here: what they held is lost. Holds nothing any more."""
        for link in self._held:
            link.task.cancel()
        self._opened.set()


class RedisProxy(TcpProxy):
    """A proxy that sees commands."""

    def __init__(self, target_port: int) -> None:
        super().__init__(target_port)
        self.delay_s = 0.0
        """Added to each answer."""
        self._holds: list[Hold] = []
        self._names = {script(path.stem).sha.encode(): path.stem for path in _LUA.glob("*.lua")}
        self._texts = {script(path.stem).text.encode(): path.stem for path in _LUA.glob("*.lua")}

    @property
    def url(self) -> str:
        """Where pods connect to."""
        return f"redis://127.0.0.1:{self.port}"

    def hold(
        self, name: str, *, answers: bool = False, only: Callable[[list[bytes]], bool] = lambda _: True
    ) -> Hold:
        """Hold each script `name` (or command, in capitals) whose keys and arguments satisfy `only`.

        With `answers` it is sent, and what Redis answers on its connection from then on is held.
        """
        hold = Hold(name, answers=answers, only=only)
        self._holds.append(hold)
        return hold

    def due(self, command: Sequence[bytes]) -> Hold | None:
        """The hold that this command runs into, if any."""
        name, arguments = self._read(command)
        return next((hold for hold in self._holds if hold.is_due(name, arguments)), None)

    def _read(self, command: Sequence[bytes]) -> tuple[str, list[bytes]]:
        name = command[0].upper()
        if name in {b"EVALSHA", b"EVAL"}:
            known = self._names if name == b"EVALSHA" else self._texts
            return known.get(command[1], "?"), list(command[3:])
        return name.decode(), list(command[1:])

    def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Link:
        return RedisLink(self, reader, writer)


class RedisLink(Link):
    """One connection to Redis; a command is answered by one reply, in order."""

    proxy: RedisProxy

    def __init__(self, proxy: RedisProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._commands = hiredis.Reader()
        self._replies = hiredis.Reader()
        self._asked = 0
        self._answered = 0
        self._waits: list[tuple[int, Hold]] = []
        super().__init__(proxy, reader, writer)

    async def sends(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Command by command, each held if it is due."""
        self._commands.feed(data)
        while (command := self._commands.gets()) is not False:
            hold = self.proxy.due(command)
            self._asked += 1
            if hold is not None and hold.answers:
                self._waits.append((self._asked, hold))
            elif hold is not None:
                await hold.wait(self)
            writer.write(hiredis.pack_command(tuple(command)))

    async def answers(self, data: bytes) -> None:
        """Count replies; from the one that is held on, none goes back."""
        if self.proxy.delay_s:
            await asyncio.sleep(self.proxy.delay_s)
        self._replies.feed(data)
        due = []
        while (reply := self._replies.gets()) is not False:
            self._answered += 1
            if self._waits and self._waits[0][0] == self._answered:
                hold = self._waits.pop(0)[1]
                # That Redis does not know the script is not the answer that is waited for.
                if not str(reply).startswith("NOSCRIPT"):
                    due.append(hold)
        for hold in due:
            await hold.wait(self)
