"""Another server that a pod asks by HTTP: a real one, on a socket, with or without TLS, that does as told."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.engines.certificates import Authority

__all__ = [
    "Answering",
    "Asked",
    "Site",
    "answer",
    "dripping",
    "hanging",
    "raw",
    "running_site",
    "server_tls",
]


@dataclass(frozen=True)
class Asked:
    """A request that came: its path as it was sent, its headers with names in lower case."""

    path: str
    headers: dict[str, str]


Answering: TypeAlias = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


def answer(body: Any, status: int = 200, **headers: str) -> Answering:
    """Answer with JSON, or with bytes as they are; `headers` with `_` for `-`."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def answering(asked: Asked, writer: asyncio.StreamWriter) -> None:
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = [f"HTTP/1.1 {status} So", f"Content-Length: {len(data)}", *lines, "", ""]
        writer.write("\r\n".join(head).encode() + data)

    return answering


def raw(data: bytes) -> Answering:
    """Answer with these bytes and close."""

    async def answering(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()

    return answering


async def hanging(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def dripping(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer a byte at a time and never come to an end, so that no single wait is long."""
    writer.write(b"HTTP/1.1 200 So\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.005)


class Site:
    """What `answering` does to each request; `asked` has come so far, over `connections` in all."""

    def __init__(self) -> None:
        self.answering: Answering = answer({})
        self.asked: list[Asked] = []
        self.connections = 0
        self.most_at_once = 0
        self.port = 0
        self._busy = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen; after a `stop`, on the same port."""
        self._tls = tls or self._tls
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Nobody listens any more, and whoever was connected is cut."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.split("\r\n")
                pairs = (line.split(": ", 1) for line in lines if line)
                asked = Asked(first.split(" ")[1], {name.lower(): value for name, value in pairs})
                self.asked.append(asked)
                self._busy += 1
                self.most_at_once = max(self.most_at_once, self._busy)
                try:
                    await self.answering(asked, writer)
                    await writer.drain()
                finally:
                    self._busy -= 1
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()


@asynccontextmanager
async def running_site(tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    """A site until the end of the `with`."""
    site = Site()
    await site.start(tls)
    try:
        yield site
    finally:
        await site.stop()


def server_tls(authority: Authority, host: str = "127.0.0.1") -> ssl.SSLContext:
    """What a server of `host` needs, signed by `authority`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign(host))
    return context
