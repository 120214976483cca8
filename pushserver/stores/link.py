"""A link: one connection to an engine, down which one batch of commands travels at a time.

redis-py makes the connection (TLS, AUTH, SELECT, who is the master) and then leaves the socket to us. Its own
way to write and to read costs a coroutine, a time-out and some ten calls for each answer, and a pool with a
lock for each batch; here an answer costs one call of hiredis' reader, and a batch neither a task nor a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import hiredis
from redis import exceptions as redis_errors

__all__ = ["Argument", "Landed", "Link", "pack"]

Argument = str | bytes | int | float

Landed: TypeAlias = Callable[[list[Any] | BaseException], None]
"""Is told the answers of a batch, errors among them; or what became of it."""

_pack: Callable[[tuple[Argument, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]
"""Its annotation is of a tuple of one."""
_READ_BYTES = 64 * 1024
_NOT_YET = object()
"""What the reader says when the next answer is not there as a whole."""


def pack(args: tuple[Argument, ...]) -> bytes:
    """A command as it is sent.

    Raises `ValueError` for a text that UTF-8 cannot hold, `TypeError` for what is neither text nor number.
    """
    try:
        return _pack(args)
    except TypeError:
        # It takes no subclasses, and members of a StrEnum are that.
        return _pack(tuple(arg.encode() if isinstance(arg, str) else arg for arg in args))


class Link(asyncio.BufferedProtocol):
    """Takes over a connection of redis-py that is connected and at rest.

    No answer ever goes to another batch: when a batch is cut, when the engine answers what nobody asked, or
    what is no answer, the link is closed for good.
    """

    def __init__(self, connection: Any, on_closed: Callable[[Link], None]) -> None:
        self.connection = connection
        """It holds the stream writer, which would close the socket if it was let go."""
        self._on_closed = on_closed
        # No public way leads to the socket of a connection, nor to the classes of its errors.
        self._transport: asyncio.Transport = connection._writer.transport
        self._parse_error: Callable[[str], Exception] = connection._parser.parse_error
        self._streams = self._transport.get_protocol()
        self._reader = hiredis.Reader(
            protocolError=redis_errors.InvalidResponse, replyError=self._error, notEnoughData=_NOT_YET
        )
        self._buffer = bytearray(_READ_BYTES)
        self._view = memoryview(self._buffer)
        self._answers: list[Any] = []
        self._due = 0
        self._landed: Landed | None = None
        self._fault: Exception | None = None
        self.closed = False
        """It is not to be used any more."""
        self.gone = asyncio.Event()
        """Its socket is closed."""
        self._transport.set_protocol(self)

    def send(self, parts: Sequence[bytes], landed: Landed) -> None:
        """Send packed commands, all at once, and tell `landed` when all are answered, or what happened.

        Only when what was sent before has landed. A link that is closed tells so at once.
        """
        if self.closed:
            landed(redis_errors.ConnectionError("the connection was closed"))
            return
        self._landed = landed
        self._due = len(parts)
        self._transport.write(b"".join(parts))

    def cut(self, error: BaseException) -> None:
        """Close the link; what travels fails with `error`. Twice is once."""
        if self.closed:
            return
        self.closed = True
        self._transport.abort()
        # So that it does not say, when it is collected, that it was never closed.
        self.connection._close()
        self._on_closed(self)
        landed, self._landed = self._landed, None
        if landed is not None:
            landed(error)

    def _error(self, text: str) -> Exception:
        """The error that an answer is. Some are the connection's rather than the command's."""
        error = self._parse_error(text)
        if isinstance(error, redis_errors.ConnectionError):
            self._fault = error
        return error

    # -- what the transport says

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read to."""
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        """Take the answers that are complete."""
        try:
            complete = self._take(nbytes)
        except redis_errors.RedisError as error:
            self.cut(error)
            return
        if self._fault is not None:
            self.cut(self._fault)
        elif complete:
            self._land()

    def _take(self, nbytes: int) -> bool:
        reader, answers, due = self._reader, self._answers, self._due
        reader.feed(self._buffer, 0, nbytes)  # type: ignore[arg-type] # takes any buffer
        while len(answers) < due:
            answer = reader.gets()
            if answer is _NOT_YET:
                return False
            answers.append(answer)
        return True

    def _land(self) -> None:
        answers, self._answers, self._due = self._answers, [], 0
        landed, self._landed = self._landed, None
        if landed is None or self._reader.has_data():
            # To whom would it belong? What was asked for is answered all the same.
            self.cut(redis_errors.ConnectionError("an answer that nobody asked for"))
        if landed is not None:
            landed(answers)

    def eof_received(self) -> None:
        """The engine closes the connection; so do we."""
        self.cut(redis_errors.ConnectionError("the engine closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        # redis-py's streams are told as well: somebody may wait for their end. Not what ended it: they would
        # keep it, and from its traceback hangs all that travelled.
        self._streams.connection_lost(None)
        self.cut(exc if isinstance(exc, OSError) else redis_errors.ConnectionError("the connection was lost"))
        self.gone.set()
        # A circle: the reader knows a method of ours. What nobody uses any more goes at once.
        del self._reader
