"""A back end that posts messages over kept connections: as fast as they are answered, or at a pace."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from machine import BenchError

__all__ = ["Poster"]

ACCEPTED = b"HTTP/1.1 202"
WAIT_S = 30


class Poster:
    """Connections to the admin listeners of some pods, so many to each."""

    def __init__(self, admin_ports: Sequence[int], to_each: int) -> None:
        self._epoll = select.epoll()
        self._socks: dict[int, socket.socket] = {}
        self._head = b""
        # Neighbours are on different pods.
        for port in list(admin_ports) * to_each:
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socks[sock.fileno()] = sock
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._free = deque(self._socks.values())
        self._answered = 0

    def __enter__(self) -> Poster:
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._socks.values():
            sock.close()
        self._epoll.close()

    def post(self, bodies: Sequence[bytes]) -> float:
        """All of them, each connection its next when its last is answered; the seconds it took."""
        began = time.monotonic()
        self._run(len(bodies), lambda number: bodies[number], lambda _: 0.0)
        return time.monotonic() - began

    def post_at(self, per_s: float, count: int, body: Callable[[int], bytes]) -> None:
        """`count` at a steady pace; `body` gets when each is due, in nanoseconds of the monotonic clock.

        One that is due while no connection is free waits, and its latency counts from when it was due.
        """
        began = time.monotonic()

        def due(number: int) -> float:
            return began + number / per_s

        self._run(count, lambda number: body(int(due(number) * 1e9)), due)

    def _run(self, count: int, body: Callable[[int], bytes], due: Callable[[int], float]) -> None:
        sent = self._answered = 0
        while self._answered < count:
            now = time.monotonic()
            while sent < count and self._free and due(sent) <= now:
                self._send(self._free.popleft(), body(sent))
                sent += 1
            wait_s = max(0.0, due(sent) - now) if sent < count and self._free else WAIT_S
            events = self._epoll.poll(wait_s)
            if not events and wait_s == WAIT_S:
                raise BenchError("a message was not answered")
            for fd, _ in events:
                self._read(self._socks[fd])

    def _send(self, sock: socket.socket, body: bytes) -> None:
        head = (
            "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        sock.sendall(head.encode() + body)

    def _read(self, sock: socket.socket) -> None:
        answer = sock.recv(65536)
        # An answer to one message is a packet, here.
        if not answer.startswith(ACCEPTED) or not answer.rstrip().endswith(b"}"):
            raise BenchError(f"a message was answered {answer[:200]!r}")
        self._answered += 1
        self._free.append(sock)
