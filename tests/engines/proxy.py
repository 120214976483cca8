"""A proxy before Redis that knows its commands: a test can hold one step of a pod that runs as a process.

Before the command is sent, or its answer after.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import hiredis

import pushserver.stores
from pushserver.stores.scripts import script
from tests.engines.tcp_proxy import Link, TcpProxy

__all__ = ["Hold", "RedisProxy"]

_ADDRESS = re.compile(rb"(?P<host>127\.0\.0\.1(?:\r\n)?:)(?P<port>\d+)(?=\r\n)")
"""In an error, or as two parts of an answer (RESP2): the host, and the port as a number."""
_LUA = Path(pushserver.stores.__file__).parent / "lua"


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
    """A proxy that sees commands. Before a cluster it stands before every node, and nodes name its ports."""

    def __init__(self, *target_ports: int) -> None:
        super().__init__(*target_ports)
        self.delay_s = 0.0
        """Added to each answer."""
        self._holds: list[Hold] = []
        self._names = {script(path.stem).sha.encode(): path.stem for path in _LUA.glob("*.lua")}
        self._texts = {script(path.stem).text.encode(): path.stem for path in _LUA.glob("*.lua")}

    @property
    def url(self) -> str:
        """Where pods connect to."""
        scheme = "redis+cluster" if len(self.ports) > 1 else "redis"
        return f"{scheme}://127.0.0.1:{self.port}"

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

    def _link(self, target_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Link:
        return RedisLink(self, target_port, reader, writer)


class RedisLink(Link):
    """One connection to Redis; a command is answered by one reply, in order."""

    proxy: RedisProxy

    def __init__(
        self,
        proxy: RedisProxy,
        target_port: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._commands = hiredis.Reader()
        self._replies = hiredis.Reader()
        self._asked = 0
        self._answered = 0
        self._waits: list[tuple[int, Hold]] = []
        self._unread = b""
        """Of a reply that is not all there."""
        super().__init__(proxy, target_port, reader, writer)

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

    async def answers(self, data: bytes) -> bytes:
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
        return self._renamed(data)

    def _renamed(self, data: bytes) -> bytes:
        """Where a node of a cluster names another (MOVED, ASK, CLUSTER SLOTS): the proxy's port for that one.

        An address in two parts would be missed, so nothing goes on before its reply has been read.
        """
        data, self._unread = self._unread + data, b""
        if self._replies.has_data():
            data, self._unread = b"", data
        return _ADDRESS.sub(self._renamed_one, data)

    def _renamed_one(self, found: re.Match[bytes]) -> bytes:
        port = int(found["port"])
        return b"%s%d" % (found["host"], self.proxy.ports.get(port, port))
