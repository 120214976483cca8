"""The WebSocket protocol behind Tornado's handler: it answers 101 and takes the socket over.

Tornado does the handshake. What it would keep for the life of a connection (request, handler, stream,
coroutines: 15 kB) is let go of: afterwards the socket belongs to a `SocketTransport`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import socket
from collections.abc import Callable

from tornado.httputil import HTTPHeaders
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream
from tornado.websocket import WebSocketHandler, WebSocketProtocol

__all__ = ["HandoverProtocol", "accept_value", "take_socket"]

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_value(key: str) -> str | None:
    """The answer to a `Sec-WebSocket-Key` (RFC 6455 section 4.2.2); None unless it is 16 bytes in base64."""
    try:
        raw = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) != 16:
        return None
    # SHA-1 is what the RFC says; nothing is protected by it.
    return base64.b64encode(hashlib.sha1(key.encode() + _MAGIC, usedforsecurity=False).digest()).decode()


def take_socket(stream: IOStream) -> tuple[socket.socket, bytes]:
    """Take the socket out of a detached stream, with what the client sent behind its request.

    Tornado has no way to give a socket away, hence its private fields; a test holds this against each
    Tornado there is. The stream is left closed, without having closed the socket.
    """
    early = bytes(stream._read_buffer[: stream._read_buffer_size])
    sock = stream.socket
    IOLoop.current().remove_handler(sock.fileno())
    stream._state = None
    stream._closed = True
    return sock, early


class HandoverProtocol(WebSocketProtocol):
    """Lives from the end of the chain until the 101 is on its way."""

    def __init__(
        self, handler: WebSocketHandler, accept: str, take_over: Callable[[IOStream, bytes], None]
    ) -> None:
        super().__init__(handler)
        self._accept = accept
        self._take_over = take_over
        self._subprotocol: str | None = None

    async def accept_connection(self, handler: WebSocketHandler) -> None:
        """Give stream and answer to `take_over`, which sends the 101 with the first frames in one write."""
        offered = handler.request.headers.get_list("Sec-WebSocket-Protocol")
        self._subprotocol = handler.select_subprotocol(offered)
        head = (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {self._accept}\r\n"
        )
        if self._subprotocol:
            head += f"Sec-WebSocket-Protocol: {self._subprotocol}\r\n"
        self._take_over(handler.detach(), head.encode("latin-1") + b"\r\n")

    def is_closing(self) -> bool:
        """Always: nothing is ever sent through Tornado's interface."""
        return True

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Nothing to do: the socket is another's or Tornado's own."""

    def write_message(self, message: object, binary: bool = False) -> None:  # type: ignore[override]
        """Not available: connections are written by `delivery`."""
        raise RuntimeError("connections are written by delivery, not by the handler")

    def write_ping(self, data: bytes) -> None:
        """Not available, as `write_message`."""
        raise RuntimeError("connections are pinged by delivery, not by the handler")

    @property
    def selected_subprotocol(self) -> str | None:
        """What the 101 says was selected."""
        return self._subprotocol

    def start_pinging(self) -> None:
        """Nothing: one wheel drives all pings."""

    def set_nodelay(self, x: bool) -> None:
        """Nothing: `SocketOptions` has set it."""

    async def _receive_frame_loop(self) -> None:
        """Never runs: the socket's reader is `SocketTransport`."""

    def _process_server_headers(self, key: str | bytes, headers: HTTPHeaders) -> None:
        """Never asked: that is a client's part."""
