"""The handshakes that Tornado reads: its hooks turn a request into a `Context`, run the chain, and give the
socket away. Most are read by the front and take the same way without it.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from functools import cache
from http.client import responses
from types import TracebackType
from typing import Any

import structlog
import tornado.web
import tornado.websocket

from pushserver.core.context import Context
from pushserver.core.jsontext import dump
from pushserver.web.answer import Answer, refusal
from pushserver.web.chain import CLOSE_CODE, CREDENTIALS
from pushserver.web.chain.refuse import error_body
from pushserver.web.door import Door
from pushserver.web.handover import HandoverProtocol, HeadStream
from pushserver.web.request import plain_request
from pushserver.web.upgrade import no_handshake

__all__ = ["JsonErrors", "NotFound", "PushHandler"]

log = structlog.get_logger(__name__)


class JsonErrors(tornado.web.RequestHandler):
    """Every error of this server is JSON, and tells nothing about what it runs on."""

    def set_default_headers(self) -> None:
        """No version of anything."""
        self.set_header("Server", "pushserver")
        self.set_header("Content-Type", "application/json; charset=utf-8")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Tornado's own refusals (405, 400, 500) in our form."""
        if status_code == 405:
            self.set_header("Allow", ", ".join(self._methods()))
        message = responses.get(status_code, "Unknown")
        self.refuse(status_code, message.lower().replace(" ", "_"), message)

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """A refusal is no event; an error is one, without the query, in which a token may stand."""
        if not isinstance(value, tornado.web.HTTPError):
            log.error("request.failed", path=self.request.path, exc_info=(typ, value, tb))

    def refuse(self, status: int, code: str, message: str, **more: str) -> None:
        """Answer with an error and finish."""
        self.set_status(status)
        self.finish(dump(error_body(code, message, **more)))

    @classmethod
    @cache
    def _methods(cls) -> Sequence[str]:
        """What is implemented here (RFC 9110 section 15.5.6)."""
        inherited = tornado.web.RequestHandler
        methods = (method.lower() for method in cls.SUPPORTED_METHODS)
        return tuple(name.upper() for name in methods if getattr(cls, name) is not getattr(inherited, name))


class NotFound(JsonErrors):
    """Every path that is none."""

    def prepare(self) -> None:
        """404, whatever the method."""
        self.refuse(404, "not_found", "no such path")


class PushHandler(JsonErrors, tornado.websocket.WebSocketHandler):
    """`GET /ws`, where Tornado read the request. Lives until the 101; then the socket is another's."""

    def initialize(self, door: Door) -> None:
        """Take what `app` built."""
        self._door = door
        self._ctx: Context | None = None
        self._deadline: asyncio.Timeout | None = None
        self._taken = False
        """The socket is another's."""

    async def prepare(self) -> None:
        """Run the chain before any upgrade; answer a refusal as it says."""
        request = plain_request(self.request)
        answer = no_handshake(request, self.request.version)
        if answer is not None:
            self._door.metrics.handshakes.labels(str(answer.status)).inc()
            self._send(answer)
            return
        ctx = self._ctx = self._door.context(request)
        await self._run_chain(ctx)
        status = ctx.refusal_status
        # The stream itself is asked, for it knows of a loss one turn of the loop before we are told.
        if self._stream().closed():
            self._door.lost(ctx)
            self._finished = True
            self._break_cycles()
        elif status is not None:
            self._door.refused(ctx, status)
            # With a close code it is answered by the upgrade that follows, see `get_websocket_protocol`.
            if CLOSE_CODE not in ctx.keys:
                self._send(refusal(ctx, status))

    async def _run_chain(self, ctx: Context) -> None:
        try:
            async with asyncio.timeout(self._time_left()) as self._deadline:
                await ctx.next()
        except TimeoutError:
            self._door.late(ctx)
        finally:
            self._deadline = None

    def _time_left(self) -> float:
        """Seconds until the handshake's deadline, which runs from the accept."""
        spent = time.monotonic() - self._stream().accepted_at
        return max(0.0, self._door.handshake_timeout_s - spent)

    def _stream(self) -> HeadStream:
        stream: HeadStream = self.request.connection.stream  # type: ignore[union-attr] # a socket's request has one
        return stream

    def _send(self, answer: Answer) -> None:
        self.set_status(answer.status, answer.reason)
        self.clear_header("Content-Type")
        for name, value in answer.all_headers.items():
            self.set_header(name, value)
        self.finish(answer.body or None)

    # -- the upgrade

    async def get(self) -> None:
        """Upgrade what the chain let through, and leave no cycle: all of this goes now, not at a collection.

        Tornado's own `get` would first judge `Sec-Fetch-Site` and `Origin` by rules that are not ours.
        """
        try:
            await self.get_websocket_protocol().accept_connection(self)
        finally:
            if not self._taken:
                # As in `Arrival`: a link took out of the keys what is needed, or the handshake was none.
                ctx = self._context()
                self._door.undo(ctx, was_let_in=ctx.refusal_status is None)
        self._break_cycles()

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """What the chain selected, never the one that carries the token."""
        selected: str | None = self._context().must_get(CREDENTIALS).subprotocol
        return selected

    def get_websocket_protocol(self) -> HandoverProtocol:
        """Our own protocol, which gives the socket away."""
        return HandoverProtocol(self, self._take_over)

    def _take_over(self, sock: socket.socket, early: bytes) -> None:
        ctx, door = self._context(), self._door
        try:
            if ctx.refusal_status is None:
                door.tasks.spawn(door.let_in(ctx, sock, early), "serve connection")
            else:
                door.turn_away(ctx, sock, early)
        except Exception:
            # What had a transport is told of its end by that.
            self._taken = sock.fileno() == -1
            if not self._taken:
                door.poller.forget(sock.fileno())
                sock.close()
            raise
        self._taken = True

    def _context(self) -> Context:
        if self._ctx is None:
            raise RuntimeError("the chain has not run")
        return self._ctx

    def on_connection_close(self) -> None:
        """The client was lost while the chain ran: end it, for nothing will be registered."""
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())
