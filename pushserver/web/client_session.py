"""One connection of the Python client, from its opening to its end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, WebSocketError, websocket_connect

from pushserver.core.close_codes import CloseCode
from pushserver.core.jsontext import dump, parse_strict
from pushserver.web.credentials import ACK_SUBPROTOCOL

__all__ = ["ClientSession"]

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
ACK_DELAY_S = 0.05
"""Acks that come within it share a frame, so that catching up stays below the server's frame rate."""
AHEAD = 256
"""With acks: frames that are read before they are asked for. The server's window stops it earlier, mostly."""
CONFIRM_WAIT_S = 3
"""How long the last message wanted waits for the ping that confirms it; a message to categories waits 2 s."""
CLOSE_WAIT_S = 1
PING_EVERY_S, PONG_WAIT_S = 60, 30
"""A path that died in silence is noticed by these."""


class ClientSession:
    """Hands on what one connection brings, frame by frame, until it is closed.

    Without `ack`, Tornado reads no further until the next frame is asked for, so a ping that confirms a
    message is answered when that message is done with, and not while it waits here.
    """

    def __init__(self, *, ack: bool) -> None:
        self._ack = ack
        self._ahead = AHEAD if ack else 0
        self._opening: asyncio.Future[WebSocketClientConnection]
        self._connection: WebSocketClientConnection
        self._frames: deque[str | bytes] = deque()
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        """Whoever reads here has asked for more, and there is none."""
        self._closed = asyncio.Event()
        self._pinged = asyncio.Event()
        self._ids: list[str] = []
        self._acking: asyncio.TimerHandle | None = None
        self._has_message = False
        self._leaving = False
        self.welcomed = False
        """Whether the token was believed."""

    @property
    def close_code(self) -> int | None:
        """How it ended; None without a close frame."""
        return self._connection.close_code

    @property
    def close_reason(self) -> str:
        """The text of its close frame."""
        return self._connection.close_reason or ""

    async def open(self, request: HTTPRequest) -> None:
        """Connect. `close` has to be called in the end, unless this raises.

        Raises `HTTPClientError` if the server answers with another status, `WebSocketError` if with no
        WebSocket, and `OSError` if it cannot be reached.
        """
        opening = websocket_connect(
            request,
            on_message_callback=self._first,
            max_message_size=MAX_MESSAGE_BYTES,
            subprotocols=[ACK_SUBPROTOCOL] if self._ack else None,
            ping_interval=PING_EVERY_S,
            ping_timeout=PONG_WAIT_S,
        )
        # It is a Future, which `_first` looks into: frames may come before `await` returns.
        self._opening = asyncio.ensure_future(opening)
        self._connection = await self._opening

    # -- frames

    async def next(self) -> Mapping[str, Any] | None:
        """The next frame, None when the connection is closed. The frames before are done with."""
        if not self._frames:
            self._idle.set()
        while not self._frames:
            if self._closed.is_set():
                return None
            self._news.clear()
            await self._news.wait()
        frame = _parse(self._frames.popleft())
        kind = frame.get("type")
        self.welcomed |= kind == "welcome"
        if kind == "message":
            self._has_message = True
            self._pinged.clear()
        return frame

    def _first(self, text: str | bytes | None) -> None:
        """Called with the first frame as it is parsed, and with None when the connection is closed."""
        if text is None:
            self._closed.set()
        else:
            connection = self._opening.result()
            connection.on_message = self._take  # type: ignore[method-assign,assignment]
            connection.on_ping = self._on_ping  # type: ignore[method-assign]
            self._frames.append(text)
        self._news.set()

    async def _take(self, text: str | bytes) -> None:
        """Called with any further frame; the one behind it is read when this returns."""
        if self._leaving:
            self._leave_to_the_next(text)
            return
        self._frames.append(text)
        self._news.set()
        if len(self._frames) > self._ahead:
            self._idle.clear()
            await self._idle.wait()

    def _on_ping(self, data: bytes) -> None:
        self._pinged.set()
        self._news.set()

    # -- what is sent

    def send(self, frame: Mapping[str, Any]) -> None:
        """Send a frame; one that is lost with the connection is no error."""
        with suppress(WebSocketError, OSError):
            sending = asyncio.ensure_future(self._connection.write_message(dump(frame)))
            sending.add_done_callback(lambda future: future.cancelled() or future.exception())

    def acknowledge(self, message_id: str) -> None:
        """Confirm a message, with others that come within a moment. Without `ack` the pongs do that."""
        if not self._ack:
            return
        self._ids.append(message_id)
        if self._acking is None:
            self._acking = asyncio.get_running_loop().call_later(ACK_DELAY_S, self._send_acks)

    def _send_acks(self) -> None:
        if self._acking is not None:
            self._acking.cancel()
            self._acking = None
        if self._ids:
            # Not acknowledged is not lost: it comes again on the next connection.
            ids, self._ids = self._ids, []
            self.send({"type": "ack", "ids": ids})

    # -- the end

    async def close(self, *, confirm: bool) -> None:
        """Say goodbye, and wait a second for the answer; `confirm` what was handed on before."""
        self._leaving = True
        try:
            if confirm:
                self._send_acks()
                if not self._ack and self._has_message and not self._holds_a_message():
                    await self._wait_for_ping()
        finally:
            # Also of one that the server has closed: Tornado wants it.
            self._connection.close(CloseCode.NORMAL)
            self._idle.set()
            if self._acking is not None:
                self._acking.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WAIT_S):
                await self._closed.wait()

    def _holds_a_message(self) -> bool:
        """One that was read and not handed on: the next ping would confirm it, too."""
        return any(_parse(text).get("type") == "message" for text in self._frames)

    async def _wait_for_ping(self) -> None:
        """Wait until the ping behind the last message is answered, or it would come again next time."""
        self._idle.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(CONFIRM_WAIT_S):
                while not self._pinged.is_set() and not self._closed.is_set():
                    self._news.clear()
                    await self._news.wait()

    def _leave_to_the_next(self, text: str | bytes) -> None:
        if _parse(text).get("type") == "message":
            # Closed right here, for after a close frame no ping is answered any more.
            self._connection.close(CloseCode.NORMAL)


def _parse(text: str | bytes) -> Mapping[str, Any]:
    try:
        frame = parse_strict(text)
    except ValueError:
        frame = None
    return frame if isinstance(frame, dict) else {"type": "unknown", "frame": str(text)}
