"""A load generator: many WebSocket clients in one thread, cheap per frame.

It connects, waits for `live`, counts messages and answers pings. Nothing of it is shared with the server.
"""

from __future__ import annotations

import base64
import os
import selectors
import socket
import time
from collections.abc import Sequence

LIVE = b'{"type":"live"'
MESSAGE = b'{"type":"message"'
MASK = b"\x00\x00\x00\x00"
"""A mask of zeros is a mask (RFC 6455 asks clients for random ones, to protect proxies)."""


class Peer:
    """One client."""

    __slots__ = ("buffer", "live", "messages", "sock", "upgraded")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.upgraded = False
        self.live = False
        self.messages = 0


class Load:
    """A crowd of clients of one pod on 127.0.0.1."""

    _crowds = 0

    def __init__(self, port: int, *, offers: bool = False) -> None:
        self._port = port
        self._offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if offers else ""
        Load._crowds += 1
        self._network = f"{1 + os.getpid() % 250}.{Load._crowds % 250}"
        self._selector = selectors.DefaultSelector()
        self.peers: list[Peer] = []
        self.live = 0
        self.messages = 0
        self.message_bytes = 0
        """Of their frames, as they came."""
        self.refused = 0

    def connect(self, tokens: Sequence[str], at_a_time: int = 64) -> None:
        """Connect with each token; return when all are live (or refused)."""
        begun, before, known = 0, self.live + self.refused, len(self.peers)
        while self.live + self.refused < before + len(tokens):
            while begun < len(tokens) and before + begun - self.live - self.refused < at_a_time:
                self._begin(known + begun, tokens[begun])
                begun += 1
            self.turn(1.0)

    def _begin(self, number: int, token: str) -> None:
        sock = socket.socket()
        # Several source addresses: one has some 28 000 ports, of which the kernel finds the second half but
        # slowly, and those of the last crowd are still taken.
        sock.bind((f"127.{self._network}.{1 + number // 10_000}", 0))
        sock.connect(("127.0.0.1", self._port))
        key = base64.b64encode(os.urandom(16)).decode()
        sock.sendall(
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"{self._offer}Authorization: Bearer {token}\r\n\r\n".encode()
        )
        sock.setblocking(False)
        peer = Peer(sock)
        self.peers.append(peer)
        self._selector.register(sock, selectors.EVENT_READ, peer)

    def turn(self, timeout: float) -> None:
        """Read what has come, once."""
        for key, _ in self._selector.select(timeout):
            self._read(key.data)

    def run(self, seconds: float) -> None:
        """Read and answer for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.turn(left)

    def _read(self, peer: Peer) -> None:
        try:
            data = peer.sock.recv(256 * 1024)
        except BlockingIOError:
            return
        if not data:
            self._selector.unregister(peer.sock)
            peer.sock.close()
            self.refused += not peer.live
            return
        peer.buffer += data
        if not peer.upgraded:
            head, found, rest = peer.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                raise SystemExit(f"refused: {peer.buffer[:300]!r}")
            peer.upgraded, peer.buffer = True, rest
        self._frames(peer)

    def _frames(self, peer: Peer) -> None:
        buffer, at, pongs = peer.buffer, 0, []
        while len(buffer) - at >= 2:
            opcode, size, start = buffer[at] & 0x0F, buffer[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 4
            elif size == 127:
                size, start = int.from_bytes(buffer[at + 2 : at + 10]), at + 10
            if len(buffer) < start + size:
                break
            if opcode == 1:
                self._text(peer, buffer, at, start, start + size)
            elif opcode == 9:
                pongs.append(bytes((0x8A, 0x80 | size)) + MASK + buffer[start : start + size])
            at = start + size
        peer.buffer = buffer[at:]
        if pongs:
            peer.sock.send(b"".join(pongs))

    def _text(self, peer: Peer, buffer: bytes, at: int, start: int, end: int) -> None:
        # Only messages are ever compressed (RSV1), and nobody looks into them here.
        if buffer[at] & 0x40 or buffer.startswith(MESSAGE, start):
            peer.messages += 1
            self.messages += 1
            self.message_bytes += end - at
        elif not peer.live and buffer.startswith(LIVE, start):
            peer.live = True
            self.live += 1

    def close(self) -> None:
        """End all connections."""
        for peer in self.peers:
            peer.sock.close()
        self._selector.close()
