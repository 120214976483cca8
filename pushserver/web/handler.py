"""The handshake: Tornado's hooks turn a request into a `Context`, run the chain, and hand the socket over."""

from __future__ import annotations

import asyncio
import time
from http.client import responses
from types import TracebackType
from typing import Any

import structlog
import tornado.web
import tornado.websocket
from tornado.iostream import IOStream

from pushserver.core.context import Context
from pushserver.core.jsontext import dump
from pushserver.web.chain import CLIENT_IP, CLOSE_CODE, CODE, CREDENTIALS, REASON
from pushserver.web.chain.refuse import error_body, refuse
from pushserver.web.door import Door
from pushserver.web.handover import HandoverProtocol, accept_value
from pushserver.web.request import plain_request

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

    def _methods(self) -> list[str]:
        """What is implemented here (RFC 9110 section 15.5.6)."""
        inherited = tornado.web.RequestHandler
        methods = (method.lower() for method in self.SUPPORTED_METHODS)
        return [name.upper() for name in methods if getattr(type(self), name) is not getattr(inherited, name)]


class NotFound(JsonErrors):
    """Every path that is none."""

    def prepare(self) -> None:
        """404, whatever the method."""
        self.refuse(404, "not_found", "no such path")


class PushHandler(JsonErrors, tornado.websocket.WebSocketHandler):
    """`GET /ws`. Lives until the 101; then the socket is another's and this is freed."""

    def initialize(self, door: Door) -> None:
        """Take what `app` built."""
        self._door = door
        self._ctx: Context | None = None
        self._deadline: asyncio.Timeout | None = None

    async def prepare(self) -> None:
        """Run the chain before any upgrade; answer a refusal as it says."""
        if not self._is_handshake():
            return
        ctx = self._ctx = self._door.context(plain_request(self.request))
        await self._run_chain(ctx)
        status = ctx.refusal_status
        # The stream itself is asked, for it knows of a loss one turn of the loop before we are told.
        if self._stream().closed():
            self._never_came(ctx, status)
        elif status is not None:
            self._refuse(ctx, status)

    async def _run_chain(self, ctx: Context) -> None:
        try:
            async with asyncio.timeout(self._time_left()) as self._deadline:
                await ctx.next()
        except TimeoutError:
            refuse(ctx, 503, "timeout", "the handshake took too long", retry_after_s=1)
        finally:
            self._deadline = None

    def _is_handshake(self) -> bool:
        """Whether this is worth a run of the chain (RFC 6455 section 4.2.1); if not, it was answered."""
        headers = self.request.headers
        if self.request.method != "GET":
            self.write_error(405)
        elif self.request.version == "HTTP/1.0":
            self.refuse(400, "bad_handshake", "a handshake needs HTTP/1.1")
        elif "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0":
            self.refuse(400, "bad_handshake", "a handshake has no body")
        elif headers.get("Upgrade", "").lower() != "websocket" or not _says_upgrade(headers):
            self.set_header("Upgrade", "websocket")
            self.refuse(426, "upgrade_required", "this is a WebSocket")
        elif headers.get("Sec-WebSocket-Version") != "13":
            self.set_header("Sec-WebSocket-Version", "13")
            self.refuse(426, "upgrade_required", "WebSocket version 13 only")
        elif accept_value(headers.get("Sec-WebSocket-Key", "")) is None:
            self.refuse(400, "bad_handshake", "Sec-WebSocket-Key must be 16 bytes in base64")
        else:
            return True
        self._door.metrics.handshakes.labels(str(self.get_status())).inc()
        return False

    def _time_left(self) -> float:
        """Seconds until the handshake's deadline, which runs from the accept."""
        spent: float = time.monotonic() - self._stream().accepted_at  # type: ignore[attr-defined] # by PublicServer
        return max(0.0, self._door.handshake_timeout_s - spent)

    def _stream(self) -> IOStream:
        stream: IOStream = self.request.connection.stream  # type: ignore[union-attr] # a socket's request has one
        return stream

    def _never_came(self, ctx: Context, status: int | None) -> None:
        self._door.metrics.handshakes.labels("lost").inc()
        self._door.undo(ctx, was_let_in=status is None)
        self._finished = True
        self._break_cycles()

    def _refuse(self, ctx: Context, status: int) -> None:
        self._door.metrics.handshakes.labels(ctx.get_string(CODE) or str(status)).inc()
        self._door.undo(ctx, was_let_in=False)
        log.info(
            "handshake.refused",
            status=status,
            reason=ctx.get_string(REASON),
            client_ip=ctx.get_string(CLIENT_IP),
            path=ctx.request.path,
        )
        if CLOSE_CODE in ctx.keys:
            # Answered by the upgrade that follows, see `get_websocket_protocol`.
            return
        self.set_status(status)
        for name, value in ctx.writer.headers.items():
            self.set_header(name, _as_sent(value))
        if status in {204, 304}:
            self.clear_header("Content-Type")
            self.finish()
        else:
            self.finish(ctx.writer.body or dump(error_body("refused", "refused")))

    # -- the upgrade

    async def get(self) -> None:
        """Upgrade what the chain let through, and leave no cycle: all of this goes now, not at a collection.

        Tornado's own `get` would first judge `Sec-Fetch-Site` and `Origin` by rules that are not ours.
        """
        await self.get_websocket_protocol().accept_connection(self)
        self._break_cycles()

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """What the chain selected, never the one that carries the token."""
        selected: str | None = self._context().must_get(CREDENTIALS).subprotocol
        return selected

    def get_websocket_protocol(self) -> HandoverProtocol:
        """Our own protocol, which takes the socket over."""
        accept = accept_value(self.request.headers["Sec-WebSocket-Key"]) or ""
        ctx = self._context()
        enter = self._door.let_in if ctx.refusal_status is None else self._door.turn_away
        return HandoverProtocol(self, accept, lambda stream, head: enter(ctx, stream, head))

    def _context(self) -> Context:
        if self._ctx is None:
            raise RuntimeError("the chain has not run")
        return self._ctx

    def on_connection_close(self) -> None:
        """The client was lost while the chain ran: end it, for nothing will be registered."""
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())


def _as_sent(value: str) -> str:
    """A header's value with one character a byte, as Tornado takes it: Latin-1, else UTF-8 as in Go."""
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode(errors="replace").decode("latin-1")
    return value


def _says_upgrade(headers: tornado.httputil.HTTPHeaders) -> bool:
    return "upgrade" in (part.strip().lower() for part in headers.get("Connection", "").split(","))
