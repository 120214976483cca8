"""The WebSocket protocol behind Tornado's handler: it gives the socket away.

Tornado reads the handshakes that the front leaves to it. What it would keep for the life of a connection
(request, handler, stream, coroutines: 15 kB) is let go of: afterwards the socket belongs to a
`SocketTransport`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from tornado.httputil import HTTPHeaders
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream
from tornado.websocket import WebSocketHandler, WebSocketProtocol

__all__ = ["HandoverProtocol", "HeadStream", "take_socket"]


class HeadStream(IOStream):
    """A stream whose first bytes were read by somebody else."""

    def __init__(self, sock: socket.socket, head: bytes, *, max_buffer_size: int, chunk_size: int) -> None:
        # The first read takes all of `head`, so that none of it is ever here and not in the buffer.
        super().__init__(sock, max_buffer_size=max_buffer_size, read_chunk_size=max(chunk_size, len(head)))
        self._head = head
        self.accepted_at = 0.0
        """When the socket was accepted (monotonic seconds), for the handshake's deadline."""
        self.on_gone: Callable[[], None] | None = None
        """Called once: the socket is closed, or another's."""

    def close(self, exc_info: Any = False) -> None:
        """Close it. Twice is once."""
        super().close(exc_info)
        self.tell_gone()

    def tell_gone(self) -> None:
        """Tell it once."""
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """As the socket, behind `head`."""
        head, self._head = self._head, b""
        if not head:
            return super().read_from_fd(buf)
        buf[: len(head)] = head
        return len(head)


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
    if isinstance(stream, HeadStream):
        stream.tell_gone()
    return sock, early


class HandoverProtocol(WebSocketProtocol):
    """Lives from the end of the chain until the socket is another's."""

    def __init__(self, handler: WebSocketHandler, take_over: Callable[[socket.socket, bytes], None]) -> None:
        super().__init__(handler)
        self._take_over = take_over
        self._subprotocol: str | None = None

    async def accept_connection(self, handler: WebSocketHandler) -> None:
        """Give the socket, with what came in behind the request, to `take_over`, which answers 101."""
        offered = handler.request.headers.get_list("Sec-WebSocket-Protocol")
        self._subprotocol = handler.select_subprotocol(offered)
        self._take_over(*take_socket(handler.detach()))

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
