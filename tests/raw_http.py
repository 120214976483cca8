"""HTTP requests written by hand: they say just what the test wants, also what no decent client says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Answer", "Headers", "ask", "handshake", "head", "read_answer"]

WITHIN_S = 10.0

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What a server answered; `status` is 0 if it ended the connection without a word."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which has to be JSON and say so."""
        assert self.headers["content-type"].split(";")[0] == "application/json", self
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of a JSON error."""
        code: str = self.json["error"]["code"]
        return code


def handshake(*more: tuple[str, str], token: str = "", **changed: str | None) -> Headers:
    """The headers of a WebSocket handshake; `changed` (`sec_websocket_key=None`) replaces or removes one."""
    headers: dict[str, str | None] = {
        "host": "127.0.0.1",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec_websocket_version": "13",
        "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    if token:
        headers["authorization"] = f"Bearer {token}"
    headers.update(changed)
    kept = [(name.replace("_", "-"), value) for name, value in headers.items() if value is not None]
    return [*kept, *more]


def head(headers: Headers, *, method: str = "GET", path: str = "/ws", version: str = "HTTP/1.1") -> bytes:
    """A request up to its body."""
    lines = [f"{method} {path} {version}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def ask(
    port: int,
    headers: Headers = (("Host", "127.0.0.1"),),
    *,
    method: str = "GET",
    path: str = "/ws",
    version: str = "HTTP/1.1",
    body: bytes = b"",
) -> Answer:
    """One request on a connection of its own, which is closed after the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head(headers, method=method, path=path, version=version) + body)
        return await read_answer(reader, has_body=method != "HEAD")
    finally:
        writer.close()


async def read_answer(reader: asyncio.StreamReader, *, has_body: bool = True) -> Answer:
    """The next answer; its body ends by its length, or with the connection."""
    async with asyncio.timeout(WITHIN_S):
        try:
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return Answer(0, {}, b"")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines if line)}
        status = int(first.split(" ")[1])
        if status in {101, 204, 304} or not has_body:
            return Answer(status, headers, b"")
        length = headers.get("content-length")
        return Answer(
            status, headers, await reader.readexactly(int(length)) if length else await reader.read()
        )
