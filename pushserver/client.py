"""A client for services and terminals: it stays connected, and hands on each message once.

    async with Client("wss://push.example/ws", new_token) as client:
        async for message in client:
            print(message.id, message.content)

The client for browsers (`web/static/pushserver.js`) does the same by the close code alone; this one can read
the HTTP status of a refusal, too.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import inf
from random import Random, uniform
from typing import Any

from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from tornado.websocket import WebSocketError

from pushserver.core.close_codes import CloseCode
from pushserver.core.errors import ClosedError, PushServerError, RefusedError
from pushserver.web.backoff import Backoff
from pushserver.web.client_session import ClientSession

__all__ = ["Client", "Message"]

CONNECT_TIMEOUT_S = 10
TOKEN_TIMEOUT_S = 30
RETRY_MIN_S, RETRY_MAX_S = 0.5, 20
"""Until the server's `live` frame says otherwise."""
MAX_RETRY_MS = 3_600_000
REFRESH_MIN_S = 1
"""With a clock that is wrong every token may seem to be nearly over."""
REFRESH_AGAIN_S = 5
"""After a refresh that failed."""
MAX_SEEN = 10_000
"""Ids remembered for dropping repeats; the oldest go first."""

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
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")

TokenSource = Callable[[], str | Awaitable[str]]
Watch = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Message:
    """A message, once."""

    id: str
    time: int
    """When it was sent: milliseconds since 1970 by the server's clock."""
    content: Any
    """JSON as Python has it."""


class Client:
    """One user's messages through as many connections as it takes, as an asynchronous iterator.

    A message is confirmed when the loop comes back for the next one, so what its body did not get done comes
    again. By pongs, this holds up the answers to the server's pings: a body that takes longer than
    `delivery.ping_timeout_s` needs `ack`, with which messages are confirmed by `ack` frames.

    `token` is one, or is called for one: at the first connect, before it expires, and after it was refused.
    A call that raises or takes 30 s is told to `watch` and repeated.

    `watch` is told of all that is no message: the server's frames by their types, and `closed`, `refused`,
    `failed` and `waiting`, each with its fields. What it raises ends the iteration.

    The iteration ends when the server closes with 1000 and after `close`, and raises `NotConnectedError`
    after any other end. Leaving `async with` closes, and confirms the last message unless by an error.
    """

    def __init__(
        self,
        url: str,
        token: str | TokenSource,
        *,
        ack: bool = False,
        watch: Watch = lambda kind, fields: None,
        backoff: Backoff | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = url
        self._source = None if isinstance(token, str) else token
        self._token = token if isinstance(token, str) else ""
        self._expires = inf
        """Of the token, in seconds since 1970."""
        self._is_fresh = False
        self._ack = ack
        self._watch = watch
        self._backoff = backoff or Backoff(RETRY_MIN_S, RETRY_MAX_S, Random())  # noqa: S311 - guards nothing
        self._sleep = sleep
        self._session: ClientSession | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._handed_on: str | None = None
        """The id of the message that the loop's body works on."""
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._ended = False

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *more: object) -> None:
        await self._leave(confirm=kind is None)

    async def close(self) -> None:
        """Confirm the message that was handed on last, and disconnect. Twice is once."""
        await self._leave(confirm=True)

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> Message:
        """The next message; the one before is confirmed. Raises `NotConnectedError`, and as `watch`."""
        self._is_done()
        while not self._ended:
            if self._session is None:
                await self._connect()
                continue
            frame = await self._session.next()
            if frame is None:
                await self._closed(self._session)
            elif message := self._take(frame):
                self._handed_on = message.id
                return message
        raise StopAsyncIteration

    def _is_done(self) -> None:
        """The message that was handed on is done with."""
        if self._handed_on is None:
            return
        self._seen[self._handed_on] = None
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        if self._session is not None:
            self._session.acknowledge(self._handed_on)
        self._handed_on = None

    # -- connect, wait, end

    async def _connect(self) -> None:
        """A session, or a wait for the next try. Raises `NotConnectedError`."""
        session = ClientSession(ack=self._ack)
        try:
            await session.open(await self._request())
        except HTTPClientError as error:
            await self._refused(error)
        except WebSocketError as error:
            self._refuse(200, str(error))
        except OSError as error:
            self._watch("failed", {"reason": str(error) or type(error).__name__})
            await self._wait()
        else:
            self._session = session

    async def _request(self) -> HTTPRequest:
        """Raises `OSError` if there is no token to be had."""
        is_over = self._expires <= time.time()
        self._is_fresh = self._source is not None and (not self._token or is_over)
        if self._is_fresh:
            self._token, self._expires = await self._new_token(), inf
        return HTTPRequest(
            self._url,
            headers={"Authorization": f"Bearer {self._token}"},
            connect_timeout=CONNECT_TIMEOUT_S,
            follow_redirects=False,
        )

    async def _new_token(self) -> str:
        """Raises `OSError` for whatever the source raises but a `PushServerError`; that is for the caller."""
        if self._source is None:
            raise RuntimeError("a token that was given is never asked for")
        try:
            async with asyncio.timeout(TOKEN_TIMEOUT_S):
                answer = self._source()
                token = await answer if inspect.isawaitable(answer) else answer
        except PushServerError:
            raise
        except Exception as error:
            raise OSError(f"no token: {str(error) or type(error).__name__}") from error
        if not _TOKEN.fullmatch(token):
            # Not quoted, for it may be most of one.
            raise OSError("no token: what there is has characters that no token has")
        return token

    async def _closed(self, session: ClientSession) -> None:
        code, reason = session.close_code or ABNORMAL_CLOSURE, session.close_reason
        await self._drop()
        await session.close(confirm=False)
        self._watch("closed", {"code": code, "reason": reason})
        if code == CloseCode.NOT_AUTHENTICATED:
            comes_back = self._renews(welcomed=session.welcomed)
        else:
            comes_back = code in _COMES_BACK
        if comes_back:
            await self._wait()
        else:
            self._ended = True
            if code != CloseCode.NORMAL:
                raise ClosedError(code, reason)

    def _renews(self, *, welcomed: bool) -> bool:
        """Whether another token may help: a new one that was not believed is followed by no better."""
        if self._source is None or (self._is_fresh and not welcomed):
            return False
        self._token = ""
        return True

    async def _refused(self, error: HTTPClientError) -> None:
        response = error.response
        if response is None:
            self._watch("failed", {"reason": str(error.message)})
            await self._wait()
            return
        if error.code not in _TRIES_AGAIN and not (error.code == 401 and self._renews(welcomed=False)):
            self._refuse(error.code, f"HTTP {error.code}{_reason(response)}")
        self._watch("refused", {"reason": f"HTTP {error.code}{_reason(response)}"})
        wait = response.headers.get("Retry-After", "")
        await self._wait(int(wait) if _RETRY_AFTER.fullmatch(wait) else 0)

    def _refuse(self, status: int, reason: str) -> None:
        self._ended = True
        self._watch("refused", {"reason": reason})
        raise RefusedError(status, reason)

    async def _wait(self, at_least_s: float = 0) -> None:
        wait_s = at_least_s + self._backoff.next_s()
        self._watch("waiting", {"seconds": wait_s})
        await self._sleep(wait_s)

    async def _drop(self) -> ClientSession | None:
        """The session counts no more."""
        session, self._session = self._session, None
        task, self._refreshing = self._refreshing, None
        if task is not None:
            task.cancel()
            # What `watch` raised there it will raise here as well.
            await asyncio.gather(task, return_exceptions=True)
        return session

    async def _leave(self, *, confirm: bool) -> None:
        self._ended = True
        if confirm:
            self._is_done()
        session = await self._drop()
        if session is not None:
            await session.close(confirm=confirm)

    # -- what comes

    def _take(self, frame: Mapping[str, Any]) -> Message | None:
        match frame:
            case {"type": "message", "id": str(message_id), "time": int(sent_ms), "content": content}:
                if message_id not in self._seen:
                    return Message(message_id, sent_ms, content)
                if self._session is not None:
                    # It came again because it was not settled.
                    self._session.acknowledge(message_id)
                return None
            case {"type": "welcome", "expires": int(expires)}:
                self._expires = expires
                # A time that is over means that this machine's clock is wrong: then the token expires, and
                # 4401 says so.
                left = expires - time.time()
                if left > 0:
                    self._refresh_after(max(left * uniform(0.7, 0.9), REFRESH_MIN_S))  # noqa: S311 - as above
            case {"type": "live", "retry": {"min_ms": int(low), "max_ms": int(high)}} if 0 < low <= high:
                self._backoff.set_bounds(min(low, MAX_RETRY_MS) / 1000, min(high, MAX_RETRY_MS) / 1000)
            case {"type": "live"}:
                self._backoff.reset()
            case {"type": "error", "code": "unavailable"}:
                # It was a refresh, the only thing that is asked of the server's storage.
                self._refresh_after(REFRESH_AGAIN_S, self._token)
        self._tell(frame)
        return None

    def _tell(self, frame: Mapping[str, Any]) -> None:
        kind = frame.get("type")
        fields = {name: value for name, value in frame.items() if name != "type"}
        self._watch(kind if isinstance(kind, str) and kind != "message" else "unknown", fields)

    # -- refresh

    def _refresh_after(self, delay_s: float, token: str = "") -> None:
        """Send a new token later, or this one."""
        if self._source is None:
            return
        if self._refreshing is not None:
            self._refreshing.cancel()
        self._refreshing = asyncio.ensure_future(self._refresh(delay_s, token))

    async def _refresh(self, delay_s: float, token: str) -> None:
        while True:
            await asyncio.sleep(delay_s)
            try:
                fresh = token or await self._new_token()
            except (OSError, PushServerError) as error:
                self._watch("failed", {"reason": str(error)})
                delay_s = REFRESH_AGAIN_S
                continue
            # The same again is no news: it will expire, and 4401 asks once more.
            if self._session is not None and (token or fresh != self._token):
                self._token, self._expires = fresh, inf
                self._session.send({"type": "refresh", "token": fresh})
            return


def _reason(response: HTTPResponse) -> str:
    """Code and message of our error JSON, if it is that."""
    try:
        error = json.loads(response.body)["error"]
        return f" {error['code']}: {error['message']}"
    except (ValueError, TypeError, KeyError):
        return ""
