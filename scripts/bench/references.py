"""What figures are compared with in the same run: the kernel's limit of a fan-out, and bare Tornado.

    references.py limit PORT SIZE    keeps connections; each line of input: one frame to every one of them
    references.py tornado PORT       a WebSocket server as Tornado's documentation has it

The limit is a loop of `os.write` over file descriptors with a frame that was built before: no server that
makes a system call for each delivery can be cheaper.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
from base64 import b64encode
from hashlib import sha1

from machine import SERVER, cpu, free_ports, pin, wait_for

__all__ = ["Reference"]

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
LIVE = b'\x81\x0f{"type":"live"}'


class Reference:
    """A reference server on the first processor."""

    def __init__(self, kind: str, *more: str) -> None:
        [self.port] = free_ports(1)
        command = [sys.executable, __file__, kind, str(self.port), *more]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        pin(self._process.pid, SERVER)

    def __enter__(self) -> Reference:
        wait_for(self._listens, "the reference's start")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return cpu(self._process.pid)

    def send(self) -> None:
        """Of `limit`: one frame to every connection."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()


def limit(port: int, size: int) -> None:
    """Until the input ends. `size` is that of the frame's payload, in bytes."""
    payload = b'{"type":"message","content":"' + b"x" * (size - 31) + b'"}'
    frame = b"\x81\x7e" + len(payload).to_bytes(2) + payload
    listener, epoll = socket.create_server(("127.0.0.1", port), backlog=1024), select.epoll()
    listener.setblocking(False)
    epoll.register(0, select.EPOLLIN)
    epoll.register(listener.fileno(), select.EPOLLIN)
    open_fds: list[int] = []
    while True:
        for fd, _ in epoll.poll():
            if fd == 0:
                if not os.read(0, 1):
                    return
                for one in open_fds:
                    os.write(one, frame)
            elif fd == listener.fileno():
                sock = listener.accept()[0]
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                epoll.register(sock.detach(), select.EPOLLIN)
            elif b"\r\n\r\n" in (data := os.read(fd, 65536)):
                os.write(fd, _upgrade(data))
                open_fds.append(fd)
            elif not data:
                epoll.unregister(fd)
                os.close(fd)
                if fd in open_fds:
                    open_fds.remove(fd)


def _upgrade(head: bytes) -> bytes:
    key = head.lower().index(b"sec-websocket-key:") + 18
    value = head[key : head.index(b"\r\n", key)].strip()
    accept = b64encode(sha1(value + MAGIC).digest())
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    return upgrade + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n" + LIVE


async def tornado(port: int) -> None:
    """Until killed. It verifies nobody, knows no Redis, writes one frame and echoes."""
    from tornado.httpserver import HTTPServer  # noqa: PLC0415 - the limit has no use for it
    from tornado.web import Application  # noqa: PLC0415
    from tornado.websocket import WebSocketHandler  # noqa: PLC0415

    class Echo(WebSocketHandler):
        def open(self, *_args: str, **_kwargs: str) -> None:
            self.write_message('{"type":"live"}')

        def on_message(self, message: str | bytes) -> None:
            self.write_message(message)

    HTTPServer(Application([("/ws", Echo)], log_function=lambda _handler: None)).listen(port, "127.0.0.1")
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "limit":
        limit(int(sys.argv[2]), int(sys.argv[3]))
    else:
        asyncio.run(tornado(int(sys.argv[2])))
