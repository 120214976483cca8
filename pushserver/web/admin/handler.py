"""What every handler of the admin listener begins with: who may ask, what body may come, how it is refused.

Handlers stream their bodies, so that `prepare` judges by the headers alone and whoever may not ask has no
body read. A refused request ends its connection, for what follows on it may be that body.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Mapping
from types import TracebackType
from typing import Any, ClassVar, cast

import tornado.http1connection
import tornado.web

from pushserver.core.jsontext import dump
from pushserver.web.admin.admin import Admin
from pushserver.web.admin.own_page import is_literal
from pushserver.web.admin.refusals import refusal_of
from pushserver.web.chain.admission import address_key
from pushserver.web.handler import JsonErrors
from pushserver.web.request import plain_request

__all__ = ["AdminHandler", "ApiHandler", "NoSuchPath"]

JSON = "application/json"
# The bound that counts is the handler's own, which is answered in our form.
_UNBOUNDED = 2**62


@tornado.web.stream_request_body
class AdminHandler(JsonErrors):
    """Answers whoever reaches the listener, and takes no body, unless a subclass says otherwise."""

    content_type = JSON
    """What a body has to be."""

    def initialize(self, admin: Admin) -> None:
        """Take what `app` built."""
        self.admin = admin
        self._parts: list[bytes] = []
        self._size = 0

    # -- what a subclass may say

    def may_ask(self) -> bool:
        """Whether the request may be answered; if not, it was refused."""
        return True

    def max_body_bytes(self) -> int:
        """How large a body may be; 0 for none at all."""
        return 0

    # -- Tornado's hooks

    def prepare(self) -> None:
        """Judge the request by its headers."""
        self.connection.set_max_body_size(_UNBOUNDED)
        if not self.may_ask():
            return
        if self.request.method not in self._methods():
            self.write_error(405)
        elif self._announced() > self.max_body_bytes():
            self._too_large()
        elif self.max_body_bytes() and not self._is_wanted_type():
            self.refuse(415, "unsupported_media_type", f"Content-Type must be {self.content_type}, in UTF-8")
        elif self._body_is_here():
            # Nothing is waited for, and Tornado's time-out is a task, a timer and two futures.
            self.connection.set_body_timeout(None)  # type: ignore[arg-type] # its default, by its constructor

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Keep a piece of the body, within the bound."""
        self._size += len(chunk)
        if self._size > self.max_body_bytes():
            self._parts.clear()
            self._too_large()
        else:
            self._parts.append(chunk)
        return None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Errors by their table; Tornado's own in our form."""
        refusal = refusal_of(kwargs["exc_info"][1]) if "exc_info" in kwargs else None
        if refusal is None:
            super().write_error(status_code, **kwargs)
            return
        if refusal.status == 503:
            self.set_header("Retry-After", "1")
        self.refuse(refusal.status, refusal.code, refusal.message, **refusal.more)

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """What has its place in the table is no event."""
        if refusal_of(value) is None:
            super().log_exception(typ, value, tb)

    # -- what handlers use

    @property
    def connection(self) -> tornado.http1connection.HTTP1Connection:
        """Whose bounds can be set for one request."""
        return cast(tornado.http1connection.HTTP1Connection, self.request.connection)

    @property
    def body(self) -> bytes:
        """The whole body, once it is there."""
        return b"".join(self._parts)

    def peer(self) -> str:
        """The address that asks."""
        return plain_request(self.request).peer

    def address(self) -> str:
        """Whom guesses are counted for."""
        return address_key(self.peer())

    def answer(self, fields: Mapping[str, Any], status: int = 200) -> None:
        """Finish with JSON."""
        self.set_status(status)
        self.finish(dump(fields))

    def has_key(self) -> bool:
        """Whether the request brings an API key; if not, it was answered."""
        key, address = _bearer(self.request.headers.get("Authorization", "")), self.address()
        if self.admin.guesses.exhausted(address):
            self.set_header("Retry-After", "60")
            self.refuse(429, "too_many_guesses", "too many wrong keys from this address")
            return False
        if self.admin.knows(key):
            self.admin.guesses.right(address)
            return True
        if key:
            self.admin.guesses.wrong(address)
        self.set_header("WWW-Authenticate", "Bearer")
        self.refuse(401, "not_authenticated", "an API key is needed: Authorization: Bearer KEY")
        return False

    # -- bodies

    def _announced(self) -> int:
        """The length that the headers name, or 0; one that is malformed is Tornado's to refuse."""
        length = self.request.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() and len(length) < 20 else 0

    def _body_is_here(self) -> bool:
        """Whether all of a body of known length came in together with the headers."""
        return 0 < self._announced() <= self.connection.stream._read_buffer_size

    def _is_wanted_type(self) -> bool:
        kind, _, parameters = self.request.headers.get("Content-Type", "").lower().partition(";")
        charset = parameters.replace('"', "").strip()
        return (
            kind.strip() == self.content_type
            and charset in {"", "charset=utf-8"}
            and "Content-Encoding" not in self.request.headers
        )

    def _too_large(self) -> None:
        bound = self.max_body_bytes()
        what = f"a body may have at most {bound} bytes" if bound else "this call takes no body"
        self.refuse(413, "too_large", what)


class ApiHandler(AdminHandler):
    """`/v1/*`: with an API key, and from no web page but our own."""

    calls: ClassVar[Mapping[str, str]] = {}
    """The name of each method's call, as in the description and in the metrics."""

    def may_ask(self) -> bool:
        """Refuse another web page's request, and a request without a key."""
        request = plain_request(self.request)
        if not self.admin.own_page.sent(request):
            self.refuse(
                403, "origin", "not for web pages, but for the dashboard: see the setting admin.origins"
            )
            return False
        if self.admin.api_keys:
            return self.has_key()
        if not is_literal(request.host):
            # A page whose host name was made to lead here has no Origin on a GET, but its own Host.
            self.refuse(421, "wrong_host", "ask for it by address or localhost, or set admin.api_keys")
            return False
        return True

    def on_finish(self) -> None:
        """Count the call, once it is answered."""
        call = self.calls.get(self.request.method or "", "none")
        self.admin.metrics.api_requests.labels(call, f"{self.get_status() // 100}xx").inc()


@tornado.web.stream_request_body
class NoSuchPath(JsonErrors):
    """Every path that is none; no body of it is read."""

    def prepare(self) -> None:
        """404, whatever the method."""
        self.refuse(404, "not_found", "no such path")

    def data_received(self, chunk: bytes) -> None:
        """Nothing comes here: the request is answered."""


def is_loopback(address: str) -> bool:
    """Whether an address is this host's own."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _bearer(value: str) -> str:
    scheme, _, key = value.partition(" ")
    return key.strip(" ") if scheme.lower() == "bearer" else ""
