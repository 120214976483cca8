"""One connection of the terminal client, from its opening to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, WebSocketError, websocket_connect

from pushserver.core.close_codes import CloseCode
from pushserver.core.jsontext import dump, parse_strict
from pushserver.web.client_display import Display
from pushserver.web.credentials import ACK_SUBPROTOCOL

__all__ = ["ClientSession"]

MAX_MESSAGE_BYTES = 32 * 1024 * 1024
ACK_DELAY_S = 0.05
"""Acks that come within it share a frame, so that catching up stays below the server's frame rate."""
CONFIRM_WAIT_S = 3
"""How long the last message wanted waits for the ping that confirms it; a message to categories waits 2 s."""
CLOSE_WAIT_S = 1


class ClientSession:
    """Shows what one connection brings, until it is closed or the display has enough.

    Each frame is shown as Tornado parses it, before a later ping is answered. With a queue between the
    two, messages that wait in it when the client ends would be confirmed and never shown.
    """

    def __init__(self, display: Display, *, ack: bool) -> None:
        self._display = display
        self._ack = ack
        self._opening: asyncio.Future[WebSocketClientConnection]
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()
        self._confirmed = False
        self._ids: list[str] = []
        self._fault: OSError | None = None
        self.welcomed = False
        """Whether the token was believed."""
        self.live: Mapping[str, Any] | None = None
        """The `live` frame, once it has come."""

    async def open(self, request: HTTPRequest) -> WebSocketClientConnection:
        """Connect; frames are shown from now on. `follow` has to be called next.

        Raises `HTTPClientError` if the server answers with another status, `WebSocketError` if with no
        WebSocket, and `OSError` if it cannot be reached.
        """
        opening = websocket_connect(
            request,
            on_message_callback=self._take,
            max_message_size=MAX_MESSAGE_BYTES,
            subprotocols=[ACK_SUBPROTOCOL] if self._ack else None,
        )
        # It is a Future, which `_take` looks into: frames may come before `await` returns.
        self._opening = asyncio.ensure_future(opening)
        return await self._opening

    async def follow(self, connection: WebSocketClientConnection) -> None:
        """Confirm what comes until the connection is closed, or close it when the display has enough.

        Raises what the display raises. Cancelling closes the connection in order.
        """
        try:
            await self._stay(connection)
        finally:
            await self._close(connection)

    async def _stay(self, connection: WebSocketClientConnection) -> None:
        while not self._closed.is_set() and not self._display.has_enough:
            await self._change()
            await self._acknowledge(connection)
        self._raise_fault()
        # What came before this began, or while an ack was under way.
        await self._acknowledge(connection)
        if not self._ack:
            await self._wait_for_confirm()

    async def _change(self) -> None:
        await self._changed.wait()
        self._changed.clear()
        self._raise_fault()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    async def _acknowledge(self, connection: WebSocketClientConnection) -> None:
        if not self._ack or not self._ids:
            return
        await asyncio.sleep(ACK_DELAY_S)
        ids, self._ids = self._ids, []
        # Not acknowledged is not lost: it comes again on the next connection.
        with suppress(WebSocketError, OSError):
            await connection.write_message(dump({"type": "ack", "ids": ids}))

    async def _wait_for_confirm(self) -> None:
        """Wait until the ping behind the last message is answered, or it would come again next time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CONFIRM_WAIT_S):
                while not self._confirmed and not self._closed.is_set():
                    await self._change()

    async def _close(self, connection: WebSocketClientConnection) -> None:
        connection.close(CloseCode.NORMAL)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WAIT_S):
                await self._closed.wait()

    def _take(self, text: str | bytes | None) -> None:
        """Called for each message as it is parsed, and with None when the connection is closed."""
        self._changed.set()
        if text is None:
            self._closed.set()
            return
        connection = self._opening.result()
        connection.on_ping = self._pinged  # type: ignore[method-assign]
        frame = _parse(text)
        if frame.get("type") == "message" and self._display.has_enough:
            self._leave_to_the_next(connection)
            return
        try:
            self._show(frame)
        except OSError as error:
            # Tornado would log it and go on; it is for whoever started this.
            self._fault = error

    def _leave_to_the_next(self, connection: WebSocketClientConnection) -> None:
        if not self._ack:
            # Closed right here, for after a close frame no ping is answered any more.
            connection.close(CloseCode.NORMAL)

    def _show(self, frame: Mapping[str, Any]) -> None:
        self._display.show(frame)
        kind = frame.get("type")
        if kind == "message":
            # A repeat as well: it came again because it was not yet settled.
            self._ids.append(str(frame.get("id")))
        elif kind == "welcome":
            self.welcomed = True
        elif kind == "live":
            self.live = frame

    def _pinged(self, data: bytes) -> None:
        if self._display.has_enough:
            self._confirmed = True
            self._changed.set()


def _parse(text: str | bytes) -> Mapping[str, Any]:
    try:
        frame = parse_strict(text)
    except ValueError:
        frame = None
    return frame if isinstance(frame, dict) else {"type": "unknown", "frame": str(text)}
