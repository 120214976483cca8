"""A connection's other end in memory: what was written, in which writes, and how it was ended."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from pushserver.core.message import Message, frame_of
from pushserver.delivery.connection import Connection
from pushserver.delivery.fan_out import push_to_all
from pushserver.delivery.limits import Limits
from pushserver.delivery.live_batch import LiveBatch
from tests.texts import message_text

__all__ = [
    "LIMITS",
    "Answering",
    "Direct",
    "Wire",
    "complete_frames",
    "connection",
    "limits",
    "message",
    "push_live",
]

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA


class Wire:
    """A `Transport` that keeps what is written. While `stuck` the kernel takes nothing."""

    descriptor = -1

    def __init__(self) -> None:
        self.progressed_at = time.monotonic()
        self.written = 0
        self._writes: list[bytes] = []
        self.stuck = False
        self.buffered = 0
        self.closed_with: tuple[int, str] | None = None
        self.aborted = False

    def write(self, data: bytes) -> None:
        if self.closed_with is not None or self.aborted:
            return
        self.written += len(data)
        self._writes.append(data)
        if self.stuck:
            self.buffered += len(data)

    def wrote(self, size: int) -> None:
        self.written += size

    def took(self, data: bytes, taken: int) -> None:
        raise AssertionError("nothing is written to what has no descriptor")

    def flow(self) -> None:
        """The kernel takes everything again."""
        self.stuck = False
        self.buffered = 0

    def close(self, code: int, reason: str) -> None:
        if self.closed_with is None:
            self.closed_with = (int(code), reason)

    def abort(self) -> None:
        self.aborted = True

    @property
    def writes(self) -> list[bytes]:
        """What was written, in order."""
        return self._writes

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        """(opcode, payload) of every frame, in order."""
        return list(_frames(b"".join(self.writes)))

    @property
    def texts(self) -> list[dict[str, Any]]:
        """Every JSON frame, in order."""
        return [json.loads(payload) for opcode, payload in self.frames if opcode == TEXT]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The JSON frames of a type."""
        return [frame for frame in self.texts if frame["type"] == kind]

    @property
    def ids(self) -> list[str]:
        """Ids of the messages, in order."""
        return [frame["id"] for frame in self.of("message")]

    @property
    def pings(self) -> list[bytes]:
        """Payloads of the pings, in order."""
        return [payload for opcode, payload in self.frames if opcode == PING]

    @property
    def pongs(self) -> list[bytes]:
        """Payloads of the pongs, in order."""
        return [payload for opcode, payload in self.frames if opcode == PONG]


class Direct(Wire):
    """A wire with a descriptor: what is written to that comes out at the other end, in its place."""

    def __init__(self) -> None:
        super().__init__()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self.descriptor = self._ours.fileno()

    def write(self, data: bytes) -> None:
        self.drain()
        super().write(data)

    def drain(self) -> None:
        """Take out what went into the descriptor since the last time; as one, however often that was."""
        with suppress(BlockingIOError):
            while data := self._theirs.recv(1 << 20):
                self._writes.append(data)

    @property
    def writes(self) -> list[bytes]:
        """What was written, in order."""
        self.drain()
        return self._writes

    def __enter__(self) -> Direct:
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._theirs.close()


def complete_frames(data: bytes) -> list[tuple[int, bytes]]:
    """(opcode, payload) of the frames at the beginning of `data` that are there as a whole."""
    return list(_frames(data))


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while len(data) - at >= 2:
        opcode, length = data[at] & 0x0F, data[at + 1]
        at += 2
        if length == 126:
            length, at = int.from_bytes(data[at : at + 2]), at + 2
        elif length == 127:
            length, at = int.from_bytes(data[at : at + 8]), at + 8
        if len(data) < at + length:
            return
        yield opcode, data[at : at + length]
        at += length


def limits(**changed: Any) -> Limits:
    """Limits as they are by default, but for `changed`."""
    given: dict[str, Any] = {
        "messages": 256,
        "bytes": 1024 * 1024,
        "ping_interval_s": 25.0,
        "ping_timeout_s": 10.0,
        "ack_timeout_s": 30.0,
        "log_confirm_s": 2.0,
        "frames_per_s": 50,
        "per_user": 10,
    }
    return Limits(**{**given, **changed})


LIMITS = limits()


def connection(
    user: str = "alice",
    *,
    wire: Wire | None = None,
    window: Limits = LIMITS,
    ack_mode: bool = False,
    categories: Mapping[str, tuple[str, ...]] | None = None,
    connection_id: str = "c-1",
    expires_at: float = 2_000_000_000.0,
    deflates_up_to: int = 0,
) -> Connection:
    """A connection on a `Wire`."""
    return Connection(
        connection_id=connection_id,
        user=user,
        categories=dict(categories or {}),
        client_ip="203.0.113.9",
        expires_at=expires_at,
        transport=wire or Wire(),
        window=window,
        ack_mode=ack_mode,
        deflates_up_to=deflates_up_to,
    )


def message(message_id: str, size: int = 1, on_deflated: Callable[[Message], None] | None = None) -> Message:
    """A message whose content is a text of `size` characters."""
    text = message_text(message_id, 1_700_000_000_000, "x" * size)
    return frame_of(message_id, text.encode(), 2**30, on_deflated)


def push_live(one: Connection, batch: LiveBatch, now: float) -> float | None:
    """Push to this one as to many; the answer is that of `Connection.push_live`."""
    for connection, answer in push_to_all([one], batch, now):
        assert connection is one
        return answer
    return 0.0


class Answering(Wire):
    """A wire whose client answers every ping in the next turn of the loop; then `then` is called."""

    def __init__(self, then: Callable[[list[str]], None] = lambda confirmed: None) -> None:
        super().__init__()
        self.connection: Connection | None = None
        self._then = then

    def write(self, data: bytes) -> None:
        super().write(data)
        asyncio.get_running_loop().call_soon(
            self._answer, [payload for at, payload in _frames(data) if at == PING]
        )

    def _answer(self, pings: list[bytes]) -> None:
        assert self.connection is not None
        for payload in pings:
            answer = self.connection.pong(payload, time.monotonic())
            if answer is not None:
                self._then([sent.id for sent in answer[0]])
