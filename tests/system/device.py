"""A device: one connection as a real client holds it, cheap enough for hundreds in the test's process.

It parses what arrives in the callback that brings it, without a task or a timer of its own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from typing import Any, cast

from tests.client import CLOSE, PING, PONG, TEXT, WITHIN_S, Refused
from tests.pod_process import PodProcess
from tests.system.history import History, Line

__all__ = ["Device", "connect_device"]

FIN = 0x80
NO_KEY = b"\0\0\0\0"
"""A mask that leaves what it masks as it is."""


class Device(asyncio.Protocol):
    """Writes down what it receives, and answers every ping as long as `pongs` says so."""

    def __init__(self, line: Line, pod: str, token: str) -> None:
        self.line = line
        self.pod = pod
        self.pongs = True
        self.live = False
        """The `live` frame came."""
        self.code: int | None = None
        """Of the close frame, if one came."""
        self.over = asyncio.Event()
        """The connection has ended."""
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Resolved by the `welcome` frame. Raises `Refused` or `ConnectionError`."""
        self._token = token
        self._data = bytearray()
        self._upgraded = False
        self._transport: asyncio.Transport | None = None

    # -- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the handshake."""
        self._transport = cast(asyncio.Transport, transport)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET /ws HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
        lines += ["Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
        lines += [f"Authorization: Bearer {self._token}", "", ""]
        self._transport.write("\r\n".join(lines).encode())

    def data_received(self, data: bytes) -> None:
        """Take every whole frame."""
        self._data += data
        if not self._upgraded and not self._take_head():
            return
        while (frame := self._next_frame()) is not None:
            self._take(*frame)

    def connection_lost(self, exc: Exception | None) -> None:
        """Over, however it came."""
        self.over.set()
        self._fail(exc or ConnectionError("closed before the welcome"))

    # -- parsing

    def _take_head(self) -> bool:
        head, found, rest = bytes(self._data).partition(b"\r\n\r\n")
        if not found:
            return False
        status = int(head.split(b" ", 2)[1])
        self._upgraded, self._data = status == 101, bytearray(rest)
        if not self._upgraded:
            self._fail(Refused(status, {}, rest))
            self.vanish()
        return self._upgraded

    def _fail(self, error: Exception) -> None:
        if not self.opened.done():
            self.opened.set_exception(error)
            # Whoever connects may have given up before.
            self.opened.exception()

    def _next_frame(self) -> tuple[int, bytes] | None:
        data, start = self._data, 2
        if len(data) < start:
            return None
        length = data[1]
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(data) < start:
                return None
            length = int.from_bytes(data[2:start])
        if len(data) < start + length:
            return None
        opcode, payload = data[0] & 0x0F, bytes(data[start : start + length])
        del data[: start + length]
        return opcode, payload

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._take_text(json.loads(payload))
        elif opcode == PING and self.pongs:
            self._send(PONG, payload)
        elif opcode == CLOSE:
            self.code = int.from_bytes(payload[:2]) if payload else None
            self.leave(self.code or 1000)

    def _take_text(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "message":
            self.line.received.append((frame["id"], time.monotonic()))
        elif frame["type"] == "welcome":
            self.line.id, self.line.welcomed_at = frame["connection"], time.monotonic()
            if not self.opened.done():
                self.opened.set_result(None)
        elif frame["type"] == "live":
            self.live, self.line.gap = True, frame["gap"]

    # -- what it does

    def _send(self, opcode: int, payload: bytes) -> None:
        assert self._transport is not None
        self._transport.write(bytes((FIN | opcode, 0x80 | len(payload))) + NO_KEY + payload)

    def stall(self, *, reads: bool) -> None:
        """Answer no ping any more; without `reads` the kernel's buffers fill as well."""
        self.pongs = False
        if not reads and self._transport is not None and not self.over.is_set():
            self._transport.pause_reading()

    def leave(self, code: int = 1000) -> None:
        """Say goodbye, and end."""
        if self._transport is not None and not self.over.is_set():
            self._send(CLOSE, code.to_bytes(2))
            self._transport.close()

    def vanish(self) -> None:
        """Reset the connection. Twice is once."""
        if self._transport is not None:
            self._transport.abort()


async def connect_device(pod: PodProcess, user: str, history: History) -> Device:
    """Connect as `user`. Raises `Refused`, `OSError` or `TimeoutError`."""
    device = Device(history.line(user, time.monotonic()), pod.name, pod.token(user))
    try:
        async with asyncio.timeout(WITHIN_S):
            await asyncio.get_running_loop().create_connection(lambda: device, "127.0.0.1", pod.port)
            await device.opened
    except BaseException:
        device.vanish()
        raise
    return device
