"""One request on its way through the chain: gin's `Context` for a WebSocket handshake.

Every method has a Python name and gin's own spelling (`client_ip` and `ClientIP`): one function, two
names. What gin does with one, this does with both; where gin panics, this raises.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import Any

from pushserver.core.client_ip import ClientIPRule
from pushserver.core.context_errors import ErrorEntry
from pushserver.core.context_keys import ContextKeys
from pushserver.core.context_request import ContextRequest
from pushserver.core.jsontext import dump
from pushserver.core.request import HttpRequest
from pushserver.core.response import Response

__all__ = ["MAX_HANDLERS", "Context", "Handler"]

MAX_HANDLERS = 62
"""The longest chain gin takes."""

_ABORTED_WITHOUT_STATUS = 403


class Context(ContextKeys, ContextRequest):
    """One request, what handlers noted about it (`keys`), and the answer under construction (`writer`).

    Belongs to one request and may live as long as its connection. The web layer runs the chain by
    `await ctx.next()` before any upgrade, then asks `refusal_status`. `handlers` are called in their
    order, None is skipped; more than `MAX_HANDLERS` raise `ValueError`. `params` are the route's
    parameters as (name, value), `full_path` is the route's pattern.
    """

    __slots__ = (
        "_aborted",
        "_client_ip_rule",
        "_full_path",
        "_handlers",
        "_index",
        "errors",
        "keys",
        "params",
        "request",
        "writer",
    )

    def __init__(
        self,
        request: HttpRequest,
        client_ip_rule: ClientIPRule,
        handlers: Sequence[Handler | None] = (),
        *,
        params: Sequence[tuple[str, str]] = (),
        full_path: str = "",
    ) -> None:
        if len(handlers) > MAX_HANDLERS:
            raise ValueError(f"a chain has at most {MAX_HANDLERS} handlers, not {len(handlers)}")
        self.request = request
        self.keys: dict[Any, Any] = {}
        self.errors: list[ErrorEntry] = []
        self.params = list(params)
        self.writer = Response()
        self._client_ip_rule = client_ip_rule
        self._full_path = full_path
        self._handlers = handlers
        self._index = -1
        self._aborted = False

    @property
    def Keys(self) -> dict[Any, Any]:
        """`keys`."""
        return self.keys

    @Keys.setter
    def Keys(self, keys: dict[Any, Any]) -> None:
        self.keys = keys

    @property
    def Errors(self) -> list[ErrorEntry]:
        """`errors`."""
        return self.errors

    @Errors.setter
    def Errors(self, errors: list[ErrorEntry]) -> None:
        self.errors = errors

    @property
    def Request(self) -> HttpRequest:
        """`request`."""
        return self.request

    @Request.setter
    def Request(self, request: HttpRequest) -> None:
        self.request = request

    @property
    def Params(self) -> list[tuple[str, str]]:
        """`params`."""
        return self.params

    @Params.setter
    def Params(self, params: list[tuple[str, str]]) -> None:
        self.params = params

    @property
    def Writer(self) -> Response:
        """`writer`."""
        return self.writer

    @Writer.setter
    def Writer(self, writer: Response) -> None:
        self.writer = writer

    async def next(self) -> None:
        """Run the handlers after the current one, then return. Exceptions of theirs pass through.

        A handler that never calls this does not stop the chain: the one after it runs when it returns,
        and only `abort` stops that. Who catches an exception here and does not abort lets the chain go
        on after the handler that failed.
        """
        self._index += 1
        while not self._aborted and self._index < len(self._handlers):
            handler = self._handlers[self._index]
            if handler is not None:
                result = handler(self)
                if result is not None and isawaitable(result):
                    await result
            self._index += 1

    Next = next  # noqa: A003 - the method above is meant

    def abort(self) -> None:
        """Start no further handler; the current one and those waiting in `next` go on to their end.

        Sets no status. gin would answer 200; here an abort without a status of its own refuses with
        403, see `refusal_status`.
        """
        self._aborted = True

    Abort = abort

    def is_aborted(self) -> bool:
        """Whether `abort` was called, ever."""
        return self._aborted

    IsAborted = is_aborted

    def abort_with_status(self, code: int) -> None:
        """Set the status, seal the response, abort. The first sealed status stays."""
        self.writer.write_header(code)
        self.writer.write_header_now()
        self.abort()

    AbortWithStatus = abort_with_status

    def abort_with_status_json(self, code: int, obj: Any) -> None:
        """Abort, and seal the response with `code` and `obj` as its JSON body.

        A response sealed before stays as it is. An `obj` that JSON has no form for is recorded in
        `errors` and leaves the body empty, so that a refusal stays a refusal.
        """
        self.abort()
        self.writer.write_header(code)
        try:
            self.writer.write_json(dump(obj).encode())
        except ValueError as error:
            self.error(error)
            self.writer.write_header_now()

    AbortWithStatusJSON = abort_with_status_json

    def abort_with_error(self, code: int, err: Exception | ErrorEntry | None) -> ErrorEntry:
        """`abort_with_status`, then `error`."""
        self.abort_with_status(code)
        return self.error(err)

    AbortWithError = abort_with_error

    def error(self, err: Exception | ErrorEntry | None) -> ErrorEntry:
        """Append to `errors` and return the entry; an entry is appended as it is. Does not abort.

        Raises `ValueError` for None.
        """
        if err is None:
            raise ValueError("err is None")
        entry = err if isinstance(err, ErrorEntry) else ErrorEntry(err)
        self.errors.append(entry)
        return entry

    Error = error

    def status(self, code: int) -> None:
        """Set the status to be sent: see `Response.write_header`. Does not abort."""
        self.writer.write_header(code)

    Status = status

    def header(self, name: str, value: str) -> None:
        """Set a response header; "" removes it: see `Response.set_header`."""
        self.writer.set_header(name, value)

    Header = header

    @property
    def refusal_status(self) -> int | None:
        """None if the chain lets the request through, else the HTTP status to refuse it with.

        A chain refuses by an abort or by sealing the response. A refusal without a final status of its
        own (200 or above; set before or after the abort) is a 403.
        """
        if not self._aborted and not self.writer.written():
            return None
        own = self.writer.status() if self.writer.has_status() else 0
        return own if own >= 200 else _ABORTED_WITHOUT_STATUS

    def copy(self) -> Context:
        """A snapshot for work that outlives the chain: own keys, params and errors (with the same values).

        It has no handlers, counts as aborted, and its response reaches nobody.
        """
        twin = Context(self.request, self._client_ip_rule, params=self.params, full_path=self._full_path)
        twin.keys = dict(self.keys)
        twin.errors = list(self.errors)
        twin.writer = self.writer.copy()
        twin.abort()
        return twin

    Copy = copy


Handler = Callable[[Context], Awaitable[None] | None]
"""A link of the chain, plain or async."""
