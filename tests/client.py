"""A WebSocket client for tests: it does just what it is told, also what no decent client does."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.core.client_frames import client as client_frame
from tests.core.oracle import inflated

__all__ = ["CLOSE", "PING", "PONG", "TEXT", "WITHIN_S", "Client", "Closed", "Refused", "connect"]

WITHIN_S = 20.0

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


class Refused(Exception):
    """The handshake was answered by something else than 101."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        super().__init__(f"HTTP {status}")

    @property
    def error(self) -> dict[str, str]:
        """The error of a JSON body."""
        error: dict[str, str] = json.loads(self.body)["error"]
        return error


class Closed(Exception):
    """The server ended the connection; `code` is None without a close frame."""

    def __init__(self, code: int | None, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"closed: {code} {reason}")


class Client:
    """An open connection. `pongs` off: pings are collected in `pings` and not answered."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Mapping[str, str]
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.headers = headers
        """Of the 101, names in lower case."""
        self.pongs = True
        self.pings: list[bytes] = []
        self.inflated: list[bytes] = []
        """Texts that came compressed, as they came. Nobody compresses unless it was offered."""

    async def frame(self) -> dict[str, Any]:
        """The next JSON frame. Raises `Closed` when the server ends the connection."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                opcode, payload = await self._read_frame()
                if opcode == TEXT:
                    frame: dict[str, Any] = json.loads(payload)
                    return frame
                await self._control(opcode, payload)

    async def until(self, kind: str) -> list[dict[str, Any]]:
        """Every frame up to and with the first of type `kind`."""
        frames = [await self.frame()]
        while frames[-1]["type"] != kind:
            frames.append(await self.frame())
        return frames

    async def messages(self, count: int) -> list[dict[str, Any]]:
        """The next `count` message frames; other frames in between are left out."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            frame = await self.frame()
            if frame["type"] == "message":
                found.append(frame)
        return found

    async def closed(self) -> Closed:
        """Read on until the server ends the connection; how it did."""
        try:
            while True:
                await self.frame()
        except Closed as closed:
            return closed

    async def serve(self, on_frame: Callable[[dict[str, Any]], None] = lambda frame: None) -> Closed:
        """Read and answer pings until the server ends the connection, however long that takes.

        `on_frame` is given each JSON frame, before a later ping is answered.
        """
        try:
            while True:
                opcode, payload = await self._read_frame()
                if opcode == TEXT:
                    on_frame(json.loads(payload))
                else:
                    await self._control(opcode, payload)
        except Closed as closed:
            return closed

    async def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            if self.pongs:
                await self.send_frame(PONG, payload)
            else:
                self.pings.append(payload)
        elif opcode == CLOSE:
            code = int.from_bytes(payload[:2]) if payload else None
            await self.close(code or 1000)
            raise Closed(code, payload[2:].decode())

    async def _read_frame(self) -> tuple[int, bytes]:
        try:
            first, length = await self.reader.readexactly(2)
            if length == 126:
                length = int.from_bytes(await self.reader.readexactly(2))
            elif length == 127:
                length = int.from_bytes(await self.reader.readexactly(8))
            payload = await self.reader.readexactly(length)
            if first & 0x40:
                self.inflated.append(payload)
                payload = inflated(payload)
            return first & 0x0F, payload
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed(None, "") from None

    async def send(self, frame: Mapping[str, Any]) -> None:
        """Send a JSON frame."""
        await self.send_frame(TEXT, json.dumps(frame).encode())

    async def send_frame(self, opcode: int, payload: bytes) -> None:
        """Send one whole frame."""
        await self.send_bytes(client_frame(opcode, payload))

    async def send_bytes(self, data: bytes) -> None:
        """Send any bytes; a server that has gone is no error here."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def close(self, code: int = 1000) -> None:
        """Say goodbye, and end the socket without waiting for the answer."""
        await self.send_frame(CLOSE, code.to_bytes(2))
        self.writer.close()

    def vanish(self) -> None:
        """Reset the connection without a goodbye."""
        self.writer.transport.abort()


async def connect(
    port: int,
    token: str | None = None,
    *,
    path: str = "/ws",
    headers: Sequence[tuple[str, str]] = (),
    protocols: Sequence[str] = (),
    tls: ssl.SSLContext | None = None,
    address: str = "",
) -> Client:
    """Connect to the pod on `port` of 127.0.0.1, with `tls` and from `address` if given. Raises `Refused`."""
    own = (address, 0) if address else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, local_addr=own)
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
    ]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if protocols:
        lines.append(f"Sec-WebSocket-Protocol: {', '.join(protocols)}")
    lines += [f"{name}: {value}" for name, value in headers]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    try:
        async with asyncio.timeout(WITHIN_S):
            status, answered = await _read_head(reader)
            if status == 101:
                return Client(reader, writer, answered)
            body = await reader.readexactly(int(answered.get("content-length", "0")))
    except BaseException:
        writer.close()
        raise
    writer.close()
    raise Refused(status, answered, body)


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        raise Closed(None, "no answer to the handshake") from None
    first, *lines = head.split("\r\n")
    pairs = (line.split(": ", 1) for line in lines if line)
    return int(first.split(" ")[1]), {name.lower(): value for name, value in pairs}
