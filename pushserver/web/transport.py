"""A connection's socket, written and read directly.

Kept for every idle user, so it holds a socket, a parser and what the kernel did not take; no coroutine,
no timer, no stream. All of its callbacks run on the loop and none blocks.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Protocol

import structlog

from pushserver.core.close_codes import CloseCode
from pushserver.core.deflate import InflatingParser
from pushserver.core.frames import Close, Event, FrameParser, ProtocolError, close_frame
from pushserver.delivery.connection import Connection
from pushserver.web.poller import Poller
from pushserver.web.tls import TlsSocket

__all__ = ["Owner", "SocketOptions", "SocketTransport", "cost_of", "read_some"]

log = structlog.get_logger(__name__)

READ_BYTES = 16 * 1024
"""Taken in one callback at most: what 64 KiB of the smallest frames cost, others would feel."""
INFLATING_READ_BYTES = 1024
"""The same where they may be compressed, a thousand times at most."""
MAX_LATE_BYTES = 256 * 1024
"""What a client may still send after our close frame, which may cross with it, before it is cut."""
GOODBYE_S = 2.0
"""How long a close may take: flushing what was written and hearing the other side's close frame."""


class Owner(Protocol):
    """Who is told what a socket brings."""

    def received(self, connection: Connection, events: list[Event], frames: int) -> None:
        """Events of one read, in order, and the number of frames they came in."""

    def violated(self, connection: Connection, code: CloseCode, reason: str) -> None:
        """The client broke the protocol: end the connection. Nothing more is received from it."""

    def ended(self, connection: Connection | None, client_ip: str, code: int | None) -> None:
        """The socket is closed. `connection` is None if none was ever opened on it."""


class SocketOptions:
    """What accepted sockets get, and how much may wait for one."""

    __slots__ = ("max_backlog", "max_frame_bytes", "send_buffer_bytes", "user_timeout_ms")

    def __init__(
        self, *, max_backlog: int, max_frame_bytes: int, send_buffer_bytes: int, user_timeout_ms: int
    ) -> None:
        self.max_backlog = max_backlog
        """Unsent bytes of one connection beyond which it is cut: more than its window can ever hold."""
        self.max_frame_bytes = max_frame_bytes
        self.send_buffer_bytes = send_buffer_bytes
        """SO_SNDBUF; 0 leaves it to the kernel."""
        self.user_timeout_ms = user_timeout_ms
        """TCP_USER_TIMEOUT: the kernel gives up on a peer that acknowledges nothing for so long."""

    def apply(self, sock: socket.socket) -> None:
        """Set the options on a TCP socket; others (unix) are left as they are."""
        if sock.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.send_buffer_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer_bytes)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, self.user_timeout_ms)


def read_some(sock: socket.socket, most: int) -> bytes | None:
    """What has come in; b"" if the other side is gone, None if nothing came after all."""
    try:
        return sock.recv(most)
    except (BlockingIOError, InterruptedError):
        return None
    except OSError:
        return b""


def cost_of(sock: socket.socket, size: int) -> int:
    """What a read of `size` bytes cost, as of `Watched.readable`: TLS that says nothing costs most."""
    return sock.cost if isinstance(sock, TlsSocket) else size


class SocketTransport:
    """The seam between a connection and the kernel.

    It is watched from the beginning, as not even the first frames need fit the kernel's buffer. What comes in
    is looked at in the next turn of the loop, so `start` must come in this one. `close` or `abort` ends.
    """

    __slots__ = (
        "_client_ip",
        "_close_code",
        "_closing",
        "_direct",
        "_goodbye",
        "_head",
        "_in_portions",
        "_late",
        "_max_backlog",
        "_out",
        "_owner",
        "_parser",
        "_peer_closed",
        "_poller",
        "_sock",
        "connection",
        "progressed_at",
        "written",
    )

    def __init__(
        self,
        sock: socket.socket,
        owner: Owner,
        options: SocketOptions,
        poller: Poller,
        *,
        client_ip: str,
        head: bytes,
        inflates: bool = False,
    ) -> None:
        self._poller = poller
        self._sock: socket.socket | None = sock
        self._owner = owner
        self._client_ip = client_ip
        self._max_backlog = options.max_backlog
        self._parser = (InflatingParser if inflates else FrameParser)(options.max_frame_bytes)
        self._head = head
        """The answer to the handshake, until the first frames go out with it."""
        self._out = b""
        self._direct: Callable[[bytes], int] | None = None
        """The socket's `send` while nothing is in the way of it: open, not closing, nothing buffered."""
        self._closing = False
        self._late = 0
        self._in_portions = False
        """What one read brought is still being taken; the next has to wait."""
        self._peer_closed = False
        self._close_code: int | None = None
        self._goodbye: asyncio.TimerHandle | None = None
        self.connection: Connection | None = None
        self.progressed_at = time.monotonic()
        self.written = 0
        poller.watch(sock.fileno(), self)

    def start(self, early: bytes) -> None:
        """Take what came in together with the request."""
        if early and self._sock is not None:
            self._take(early)

    # -- writing

    @property
    def buffered(self) -> int:
        """Bytes the kernel has not taken yet."""
        return len(self._out)

    def write(self, data: bytes) -> None:
        """Send whole frames. After `close` nothing more goes out."""
        send = self._direct
        if send is None:
            self._write_behind(data)
            return
        size = len(data)
        self.written += size
        try:
            sent = send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._give_up()
            return
        if sent != size:
            self._wait_behind(data[sent:])

    @property
    def descriptor(self) -> int:
        """Where whole frames may be written; -1 while something is in the way, and always with TLS."""
        sock = self._sock
        plain = self._direct is not None and not isinstance(sock, TlsSocket)
        return sock.fileno() if sock is not None and plain else -1

    def wrote(self, size: int) -> None:
        """So many bytes went to the descriptor."""
        self.written += size

    def took(self, data: bytes, taken: int) -> None:
        """Not all of `data` went into the descriptor: only so many bytes, or -1 if it is broken."""
        if taken < 0:
            self._give_up()
        else:
            self._wait_behind(data[taken:])

    def _wait_behind(self, rest: bytes) -> None:
        """The kernel does not take this yet, and what is written from now on is behind it."""
        if self._sock is not None:
            self._get_in_the_way()
            self._poller.want_to_write(self._sock.fileno(), True)
            self._keep(rest)

    def _get_in_the_way(self) -> None:
        """From now on nothing is written directly, nor to the descriptor."""
        self._direct = None
        if self.connection is not None:
            self.connection.write_down()

    def _write_behind(self, data: bytes) -> None:
        """What cannot go out just so: behind the 101, or what the kernel did not take yet."""
        if self._closing or self._sock is None:
            return
        if self._out:
            self.written += len(data)
            self._keep(self._out + data)
            return
        self._direct = self._sock.send
        # The 101 and the first frames in one write.
        data, self._head = self._head + data, b""
        self.write(data)

    def _keep(self, data: bytes) -> None:
        """For when the kernel takes more."""
        self._out = data
        if len(self._out) > self._max_backlog:
            log.warning("connection.backlog", client_ip=self._client_ip, unsent_bytes=len(self._out))
            self._close_code = self._close_code or CloseCode.NO_PROGRESS
            self._give_up()

    def _give_up(self) -> None:
        """Write no more, and end; not at once: the caller may be in a loop over all connections."""
        self._get_in_the_way()
        self._closing = True
        asyncio.get_running_loop().call_soon(self.abort)

    def writable(self) -> int:
        """Send more of what the kernel did not take before; how many bytes it took now."""
        if self._sock is None or not self._out:
            return 0
        try:
            sent = self._sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self.abort()
            return 0
        self.progressed_at = time.monotonic()
        self._out = self._out[sent:]
        if not self._out:
            self._poller.want_to_write(self._sock.fileno(), False)
            if not self._closing:
                self._direct = self._sock.send
            elif self._peer_closed:
                self.abort()
        return sent

    # -- reading

    def readable(self) -> int:
        """Take what has come in; what that cost, in bytes."""
        if self._sock is None or self._in_portions:
            return 0
        most = INFLATING_READ_BYTES if type(self._parser) is InflatingParser else READ_BYTES
        sock = self._sock
        data = read_some(sock, most)
        if data is None:
            return cost_of(sock, 0)
        if not data:
            self.abort()
        elif len(data) > most:
            # Over TLS a read brings a whole record or two, whatever was asked for.
            self._take_in_portions(data, most)
        else:
            self._take(data)
        return cost_of(sock, len(data))

    def _take_in_portions(self, data: bytes, most: int) -> None:
        """One in a turn of the loop; the next read comes behind the last of them."""
        try:
            self._take(data[:most])
        except Exception:
            # What is left of it has no beginning any more.
            self.abort()
            raise
        rest = data[most:]
        self._in_portions = bool(rest) and self._sock is not None
        if self._in_portions:
            asyncio.get_running_loop().call_soon(self._take_in_portions, rest, most)

    def _take(self, data: bytes) -> None:
        self.progressed_at = time.monotonic()
        if self._closing:
            self._late += len(data)
            if self._late > MAX_LATE_BYTES:
                self.abort()
                return
        broken: tuple[CloseCode, str] | None = None
        try:
            events = self._parser.feed(data)
        except ProtocolError as error:
            # Not the error itself: its traceback knows this frame, a circle with all that was read.
            broken, events = (error.close_code, error.reason), list(error.events)
        if events and isinstance(events[-1], Close):
            self._peer_closed = True
            if self._closing:
                self.abort()
                return
        # Fragments make no event for a long time, and count all the same.
        frames = self._parser.frames_seen
        if frames and not self._closing and self.connection is not None:
            self._owner.received(self.connection, events, frames)
        if broken is not None and not self._closing and self.connection is not None:
            self._owner.violated(self.connection, *broken)

    # -- ending

    def close(self, code: int, reason: str) -> None:
        """Send a close frame after what was written; the socket ends when the other side has closed, too.

        At most 2 s later it is cut. The first call's code stays.
        """
        if self._closing or self._sock is None:
            return
        self._close_code = code
        self.write(close_frame(code, reason))
        self._get_in_the_way()
        self._closing = True
        self._parser.skip_messages()
        loop = asyncio.get_running_loop()
        if self._peer_closed and not self._out:
            loop.call_soon(self.abort)
        else:
            self._goodbye = loop.call_later(GOODBYE_S, self.abort)

    def abort(self) -> None:
        """End at once and tell the owner. Twice is once."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        # Whatever breaks on the way, no socket may be left behind, and no descriptor that is another's later.
        try:
            self._get_in_the_way()
        finally:
            try:
                self._poller.forget(sock.fileno())
            finally:
                self._end(sock)

    def _end(self, sock: socket.socket) -> None:
        if self._goodbye is not None:
            self._goodbye.cancel()
            self._goodbye = None
        sock.close()
        self._out = b""
        # Lets go of the connection, which holds this object: no cycle is left for the collector.
        connection, self.connection = self.connection, None
        self._owner.ended(connection, self._client_ip, self._close_code)
