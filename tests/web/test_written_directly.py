"""Frames that go past the transport, into its descriptor, and all that goes the other way meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from pushserver.core.close_codes import CloseCode
from pushserver.core.frames import Event, pong_frame
from pushserver.delivery.connection import Connection, State
from pushserver.delivery.fan_out import push_to_all
from pushserver.delivery.live_batch import LiveBatch
from pushserver.web.poller import Poller
from pushserver.web.transport import SocketOptions, SocketTransport
from tests.delivery.wire import CLOSE, PING, TEXT, complete_frames, connection, limits, message

FIRST = b"\x81\x00"
"""An empty text, in place of the answer to the handshake."""
SMALL_BUFFER = 8192
MAX_TURNS = 10_000


class Line:
    """A live connection on a real socket that takes little, and its client, which reads when told to."""

    def __init__(self, poller: Poller) -> None:
        ours, self._client = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        ours.setblocking(False)
        self._client.setblocking(False)
        options = SocketOptions(
            max_backlog=1 << 24, max_frame_bytes=1 << 16, send_buffer_bytes=0, user_timeout_ms=0
        )
        self.transport = SocketTransport(ours, self, options, poller, client_ip="192.0.2.1", head=b"")
        window = limits(messages=1000, bytes=1 << 22, log_confirm_s=2.0)
        # The transport is the real one here.
        wire: Any = self.transport
        self.connection = connection(wire=wire, window=window)
        self.transport.connection = self.connection
        self.transport.write(FIRST)
        self.connection.state = State.LIVE
        self.due: list[str] = []
        self.closes = False
        self._got = bytearray()

    # -- the owner of the transport

    def received(self, connection: Connection, events: list[Event], frames: int) -> None:
        raise AssertionError("the client sends nothing")

    def violated(self, connection: Connection, code: CloseCode, reason: str) -> None:
        raise AssertionError("the client sends nothing")

    def ended(self, connection: Connection | None, client_ip: str, code: int | None) -> None:
        if connection is not None:
            connection.closed()

    # -- the client

    def read(self, size: int) -> None:
        """Take some of what has come."""
        with suppress(BlockingIOError):
            self._got += self._client.recv(size)

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        """Those that have come as a whole."""
        return complete_frames(bytes(self._got))

    @property
    def ids(self) -> list[str]:
        """Ids of the messages that have come."""
        return [json.loads(payload)["id"] for opcode, payload in self.frames if opcode == TEXT and payload]

    def answer(self, now: float) -> None:
        """The client answers its latest ping, and has all that this confirms."""
        pings = [payload for opcode, payload in self.frames if opcode == PING]
        found = self.connection.pong(pings[-1], now) if pings else None
        if found is not None:
            confirmed = [sent.id for sent in found[0]]
            assert set(confirmed) <= set(self.ids)
            self.connection.forget(confirmed)

    async def read_all(self) -> None:
        """Take all there is."""
        for _ in range(MAX_TURNS):
            self.read(1 << 20)
            await asyncio.sleep(0)
            if not self.transport.buffered:
                break
        self.read(1 << 20)

    def close(self) -> None:
        self.transport.abort()
        self._client.close()


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.gen_test
async def test_whatever_happens_frames_come_whole_in_order_and_once(seed: int) -> None:
    chance, poller, now = random.Random(seed), Poller(), 100.0
    lines = [Line(poller) for _ in range(4)]
    for step in range(120):
        now += chance.choice([0.001, 0.05, 0.5])
        one = chance.choice(lines)
        match chance.choice(["push"] * 6 + ["pong", "ping", "close"] + ["read"] * 3 + ["answer"] * 2):
            case "push":
                push(lines, step, chance.choice([1, 50, 3000, 9000]), now)
            case "pong":
                one.transport.write(pong_frame(b"%d" % step))
            case "ping" if not one.closes:
                one.connection.ping(now)
            case "close" if chance.random() < 0.2:
                one.closes = True
                one.transport.close(CloseCode.NORMAL, "")
            case "answer" if not one.closes:
                one.answer(now)
            case _:
                one.read(chance.choice([100, 5000, 100_000]))
                await asyncio.sleep(0)
    for line in lines:
        await line.read_all()
        if line.closes:
            assert line.frames[-1][0] == CLOSE
            assert line.ids == line.due[: len(line.ids)]
        else:
            assert line.ids == line.due
            assert line.connection.ledger.log_at
            assert line.transport.written == len(line._got)
        line.close()


def push(lines: Sequence[Line], place: int, size: int, now: float) -> None:
    """Push one message to all of them, and keep in mind whom it is due."""
    batch = LiveBatch([(place + 1, message(f"m-{place}", size))], 1000)
    answers = dict(push_to_all([line.connection for line in lines], batch, now))
    for line in lines:
        if answers.get(line.connection, 0.0) is not None:
            line.due.append(f"m-{place}")
