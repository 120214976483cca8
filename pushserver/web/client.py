"""The terminal client: connects, shows what comes, and comes back as any client should.

A browser's client does the same by the close code alone; this one can read the HTTP status too.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.websocket import WebSocketClientConnection, WebSocketError

from pushserver.core.close_codes import CloseCode
from pushserver.web.backoff import Backoff
from pushserver.web.client_display import Display
from pushserver.web.client_session import ClientSession

__all__ = ["TerminalClient"]

CONNECT_TIMEOUT_S = 10
MAX_RETRY_MS = 3_600_000

ABNORMAL_CLOSURE = 1006
"""RFC 6455 section 7.4.1: the connection was lost without a close frame."""
_COMES_BACK = {
    CloseCode.GOING_AWAY,
    ABNORMAL_CLOSURE,
    CloseCode.SERVICE_RESTART,
    CloseCode.NO_PROGRESS,
    CloseCode.RATE,
}
_TRIES_AGAIN = {429, 502, 503, 504}
"""HTTP statuses that pass: too many, a proxy without a pod, unavailable."""
_RETRY_AFTER = re.compile(r"[0-9]{1,4}")


class _Next(NamedTuple):
    """What to do after a connection: end with `exit_code`, or come back if it is None."""

    exit_code: int | None
    wait_s: float = 0


class TerminalClient:
    """Shows one user's messages through as many connections as it takes.

    `make_token` is asked for a token at each connect; `renewable` says that it makes a new one, so that
    an expired one is no reason to stop. With `ack` the client says itself what it received.
    """

    def __init__(
        self,
        url: str,
        make_token: Callable[[], str],
        display: Display,
        backoff: Backoff,
        *,
        renewable: bool,
        ack: bool,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = url
        self._make_token = make_token
        self._display = display
        self._backoff = backoff
        self._renewable = renewable
        self._ack = ack
        self._sleep = sleep

    async def run(self) -> int:
        """Connect, and come back, until there is an end.

        Answers an exit code: 0 if the display has enough or the server closed with 1000, else 1. Raises
        what the display raises. Cancelling closes the connection in order.
        """
        while True:
            after = await self._connect()
            if after.exit_code is not None:
                return after.exit_code
            wait_s = after.wait_s + self._backoff.next_s()
            self._display.say("waiting", f"{wait_s:.1f} s")
            await self._sleep(wait_s)

    async def _connect(self) -> _Next:
        session = ClientSession(self._display, ack=self._ack)
        try:
            connection = await session.open(self._request())
        except HTTPClientError as error:
            return self._refused(error)
        except WebSocketError as error:
            self._display.say("refused", str(error))
            return _Next(1)
        except OSError as error:
            self._display.say("failed", str(error) or type(error).__name__)
            return _Next(None)
        await session.follow(connection)
        if session.live is not None:
            self._take_bounds(session.live.get("retry"))
        return _Next(0) if self._display.has_enough else self._closed(connection, session.welcomed)

    def _request(self) -> HTTPRequest:
        return HTTPRequest(
            self._url,
            headers={"Authorization": f"Bearer {self._make_token()}"},
            connect_timeout=CONNECT_TIMEOUT_S,
            follow_redirects=False,
        )

    def _take_bounds(self, retry: object) -> None:
        """The back-off as the server wants it; the connection was live, so it begins anew."""
        self._backoff.reset()
        match retry:
            case {"min_ms": int(low), "max_ms": int(high)} if 0 < low <= high:
                self._backoff.set_bounds(min(low, MAX_RETRY_MS) / 1000, min(high, MAX_RETRY_MS) / 1000)

    def _closed(self, connection: WebSocketClientConnection, welcomed: bool) -> _Next:
        code = connection.close_code or ABNORMAL_CLOSURE
        self._display.say("closed", f"{code} {connection.close_reason or ''}")
        # Only a token that was believed can have expired; a new one of the same kind fares no better.
        renews = code == CloseCode.NOT_AUTHENTICATED and self._renewable and welcomed
        if renews or code in _COMES_BACK:
            return _Next(None)
        return _Next(0 if code == CloseCode.NORMAL else 1)

    def _refused(self, error: HTTPClientError) -> _Next:
        if error.response is None:
            self._display.say("failed", str(error.message))
            return _Next(None)
        self._display.say("refused", f"HTTP {error.code}{_reason(error.response)}")
        if error.code not in _TRIES_AGAIN:
            return _Next(1)
        wait = error.response.headers.get("Retry-After", "")
        return _Next(None, int(wait) if _RETRY_AFTER.fullmatch(wait) else 0)


def _reason(response: HTTPResponse) -> str:
    """Code and message of our error JSON, if it is that."""
    try:
        error = json.loads(response.body)["error"]
        return f" {error['code']}: {error['message']}"
    except (ValueError, TypeError, KeyError):
        return ""
