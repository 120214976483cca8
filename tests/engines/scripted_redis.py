"""A server that speaks Redis' protocol and answers as a test tells it, for what no engine does on demand."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

import hiredis

__all__ = ["HANG_UP", "ScriptedRedis"]

HANG_UP = None
"""The answer that is none: the connection is closed."""


class ScriptedRedis:
    """Listens on 127.0.0.1 on the test's loop; `answer` maps a command to the bytes of its reply.

    Each reply is sent `delay_s` after the one before it. What redis-py sends on each new connection is
    answered here and not counted.
    """

    def __init__(
        self,
        answer: Callable[[list[bytes]], bytes | None],
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        delay_s: float = 0,
    ) -> None:
        self._answer = answer
        self._delay_s = delay_s
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self.port = port
        self.commands: list[list[bytes]] = []
        self.connections = 0

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many there are now."""
        return len(self._links)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._links.values():
            writer.close()
        await asyncio.gather(*(task for task in self._links if task is not None))
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._links[asyncio.current_task()] = writer
        commands = hiredis.Reader()
        try:
            while data := await reader.read(65536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    reply = self._reply(command)
                    if reply is HANG_UP:
                        return
                    if self._delay_s:
                        await asyncio.sleep(self._delay_s)
                    if writer.is_closing():
                        return
                    writer.write(reply)
        except ConnectionError:
            pass
        finally:
            writer.close()
            del self._links[asyncio.current_task()]

    def _reply(self, command: list[bytes]) -> bytes | None:
        if command[:2] == [b"CLIENT", b"SETINFO"]:
            return b"+OK\r\n"
        self.commands.append(command)
        return self._answer(command)
