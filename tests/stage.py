"""A real server for the Python client, which plays its part connection by connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders
from tornado.ioloop import IOLoop
from tornado.testing import bind_unused_port
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from pushserver.cli.connect import show
from pushserver.cli.display import Display
from pushserver.client import Client
from pushserver.web.backoff import Backoff

WELCOME = {"type": "welcome", "user": "ann"}
LIVE = {"type": "live", "delivered": 0, "retry": {"min_ms": 100, "max_ms": 800}}


def message(message_id: str) -> dict[str, Any]:
    return {"type": "message", "id": message_id, "time": 0, "content": 1}


class Seat(WebSocketHandler):
    """One connection on the server's side."""

    def initialize(self, stage: Stage) -> None:
        self.stage = stage
        self.heard: list[Any] = []
        self.news = asyncio.Event()

    def prepare(self) -> None:
        self.stage.visits.append(self.request.headers)
        self.play = self.stage.plays.pop(0)
        if not callable(self.play):
            status, headers, body = self.play
            self.set_status(status)
            for name, value in headers.items():
                self.set_header(name, value)
            self.finish(body)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return subprotocols[0] if subprotocols else None

    def open(self, *args: str, **kwargs: str) -> None:
        self.stage.seats.append(self)
        self.stage.came.set()
        assert not isinstance(self.play, tuple), "a refusal opens nothing"
        # Beside it, for Tornado reads nothing before `open` is done.
        self.playing = asyncio.ensure_future(self.play(self))

    def send(self, *frames: Any) -> None:
        for frame in frames:
            self.write_message(
                frame if isinstance(frame, str | bytes) else json.dumps(frame), isinstance(frame, bytes)
            )

    def on_message(self, message: str | bytes) -> None:
        self.hear(json.loads(message))

    def on_pong(self, data: bytes) -> None:
        self.hear(data)

    def on_close(self) -> None:
        self.hear(self.close_code)

    def hear(self, what: Any) -> None:
        self.heard.append(what)
        self.news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.news.clear()
            await self.news.wait()

    async def left(self) -> list[Any]:
        """What was heard until the client was gone; last its close code."""
        await self.until(lambda: bool(self.heard) and not isinstance(self.heard[-1], dict | bytes))
        return self.heard


Play = Callable[[Seat], Awaitable[None]]
Refusal = tuple[int, dict[str, str], str]


class Shown(NamedTuple):
    """A client, shown as `pushserver connect` does."""

    client: Client
    display: Display
    limit: int | None

    async def run(self) -> int:
        return await show(self.client, self.display, self.limit)


class Stage:
    """A server that plays `plays`, one a connection, and remembers who came."""

    def __init__(self) -> None:
        self.plays: list[Play | Refusal] = []
        self.visits: list[HTTPHeaders] = []
        self.seats: list[Seat] = []
        self.came = asyncio.Event()
        self.lines: list[str] = []
        self.waited: list[float] = []
        self.stop_after = 100
        socket, self.port = bind_unused_port()
        self.server = HTTPServer(Application([("/ws", Seat, {"stage": self})]))
        self.server.add_socket(socket)

    async def close(self) -> None:
        self.server.stop()
        await self.server.close_all_connections()
        for seat in self.seats:
            seat.close()
            await seat.left()
            await seat.playing

    def client(
        self,
        *plays: Play | Refusal,
        count: int | None = None,
        ack: bool = False,
        tokens: Sequence[str] = ("t0k3n",),
        write: Callable[[str], None] | None = None,
    ) -> Shown:
        """A client whose messages and events are shown. Several `tokens` are asked for, one is given."""
        self.plays += plays
        display = Display(write or self.lines.append)
        client = Client(
            f"ws://127.0.0.1:{self.port}/ws",
            iter(tokens).__next__ if len(tokens) > 1 else tokens[0],
            ack=ack,
            watch=display.event,
            backoff=Backoff(0.5, 4, Random(1)),
            sleep=self.sleep,
        )
        return Shown(client, display, count)

    async def sleep(self, delay_s: float) -> None:
        self.waited.append(delay_s)
        if len(self.waited) == self.stop_after:
            raise EnoughError

    def shown(self, kind: str) -> list[str]:
        return [line.split(maxsplit=1)[1] for line in self.lines if line.startswith(kind)]


class EnoughError(Exception):
    """The test has seen as many tries as it wants."""


@contextmanager
def on_stage(io_loop: IOLoop) -> Iterator[Stage]:
    """A stage, for a fixture to hand on."""

    async def build() -> Stage:
        return Stage()

    stage: Stage = io_loop.run_sync(build)
    yield stage
    io_loop.run_sync(stage.close, timeout=20)


def closing(code: int | None, reason: str | None = None, *frames: Any) -> Play:
    async def play(seat: Seat) -> None:
        seat.send(*frames)
        seat.close(code, reason)

    return play


def sending(*frames: Any) -> Play:
    async def play(seat: Seat) -> None:
        seat.send(*frames)

    return play


async def losing(seat: Seat) -> None:
    """Cut the connection without a close frame."""
    assert seat.ws_connection is not None
    assert seat.ws_connection.stream is not None
    await seat.ws_connection.write_message(json.dumps(WELCOME))
    seat.ws_connection.stream.close()
