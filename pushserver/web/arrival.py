"""An arrival: an accepted socket until its handshake has ended.

read the head -> plain: the chain -> let in: `Door.let_in`, in the same task until the connection is live
                                  -> refused: answered and closed
              -> anything else: to Tornado, with the bytes read
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import structlog

from pushserver.core.context import Context
from pushserver.core.request import HttpRequest
from pushserver.delivery.deadlines import Deadlines, Interruptible
from pushserver.web.answer import refusal
from pushserver.web.chain import CLOSE_CODE
from pushserver.web.chain.admission import address_key
from pushserver.web.door import Door
from pushserver.web.head import MAX_HEAD_BYTES, find_end, read_head
from pushserver.web.poller import BYTES_AT_ONCE
from pushserver.web.transport import cost_of, read_some
from pushserver.web.upgrade import no_handshake

__all__ = ["Arrival", "Desk"]

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

READ_BYTES = 8 * 1024
"""Taken in one callback at most: several times a decent head."""
HEAD_COST = BYTES_AT_ONCE // 32
"""What a head counts as that has become whole: as many are begun with in one turn as are accepted in one."""
LONG_HEAD_COST = 2
"""What each of its bytes counts as, if that is more: it may be many short lines."""
MAX_EARLY_BYTES = 128 * 1024
"""What a client may send before it was answered, head included."""


class Desk(Protocol):
    """Where arrivals come to, see `Front`."""

    door: Door
    deadlines: Deadlines

    def to_tornado(self, arrival: Arrival, sock: socket.socket, data: bytes) -> None:
        """Let Tornado's server answer; it reads `data` first."""

    def over(self, arrival: Arrival) -> None:
        """The socket is closed, or another's."""


class Arrival:
    """One accepted socket, in non-blocking mode. `begin` starts it; its deadline is the desk's to tell.

    All of its callbacks run on the loop and none blocks.
    """

    __slots__ = (
        "_chain",
        "_ctx",
        "_data",
        "_desk",
        "_end",
        "_out",
        "_sock",
        "accepted_at",
        "address",
        "peer",
        "unix_socket",
    )

    def __init__(self, desk: Desk, sock: socket.socket, address: Any, *, unix_socket: bool) -> None:
        self._desk = desk
        self._sock: socket.socket | None = sock
        self.accepted_at = time.monotonic()
        self.address = address
        """The peer's, as of `accept`."""
        self.unix_socket = unix_socket
        self.peer = "" if unix_socket or not address else address_key(address[0])
        """What counts as its address."""
        self._data = b""
        """The head, and what came in behind it."""
        self._end = 0
        """Where the head ends; 0 until it is whole."""
        self._ctx: Context | None = None
        """Of a request that is in the chain, or on its way there."""
        self._chain = Interruptible()
        self._out = b""
        """What the kernel has not taken of an answer."""

    # -- reading the head

    def begin(self) -> int:
        """Read what is there already, which mostly is all of it; what that cost, in bytes."""
        cost = self.readable()
        self._watch()
        return cost

    def _watch(self) -> None:
        if self._sock is not None:
            self._desk.door.poller.watch(self._sock.fileno(), self)

    def readable(self) -> int:
        """Read what there is of the head, or behind it; what that cost, in bytes."""
        if self._sock is None:
            return 0
        sock = self._sock
        data = read_some(sock, READ_BYTES)
        if data is None:
            return cost_of(sock, 0)
        known = len(self._data)
        self._data += data
        if not data or len(self._data) > MAX_EARLY_BYTES:
            self.cut()
        elif not self._end and self._look(known):
            return max(HEAD_COST, LONG_HEAD_COST * (known + len(data)))
        return cost_of(sock, len(data))

    def _look(self, known: int) -> bool:
        """Whether the head has become whole, which was known up to there; then it goes on."""
        end = find_end(self._data, known)
        if (end or len(self._data)) > MAX_HEAD_BYTES:
            self.cut()
        elif end:
            self._end = end
            request = self._request()
            if request is None or no_handshake(request, "HTTP/1.1") is not None:
                sock, data = self._give_away()
                self._desk.door.poller.forget(sock.fileno())
                self._desk.to_tornado(self, sock, data)
            else:
                self._enter(request)
            return True
        return False

    def _request(self) -> HttpRequest | None:
        peer = "" if self.unix_socket or not self.address else self.address[0]
        return read_head(self._data[: self._end], peer, unix_socket=self.unix_socket)

    def _give_away(self) -> tuple[socket.socket, bytes]:
        """The socket, which is another's from now on, and all that was read from it."""
        sock, self._sock = self._sock, None
        if sock is None:
            raise RuntimeError("the socket is gone")
        self._desk.over(self)
        # Whoever has it now may live long, and so does the task that this one is a part of.
        data, self._data = self._data, b""
        return sock, data

    # -- the chain

    def _enter(self, request: HttpRequest) -> None:
        door = self._desk.door
        self._ctx = door.context(request)
        # Before the chain waits: a client that is lost meanwhile ends it.
        self._watch()
        door.tasks.spawn(self._connect(), "connect")

    async def _connect(self) -> None:
        """One task from the chain to the `live` frame."""
        serving = await self._shake_hands()
        if serving is not None:
            await serving

    async def _shake_hands(self) -> Coroutine[Any, Any, None] | None:
        """Run the chain and do as it says; of who is let in, what serves them."""
        ctx, self._ctx = self._ctx, None
        if ctx is None:
            raise RuntimeError("there is no request")
        try:
            await self._run(ctx)
            return self._done(ctx)
        except Exception:
            # Without the query, in which a token may stand.
            log.exception("request.failed", path=ctx.request.path)
            self.cut()
            return None

    async def _run(self, ctx: Context) -> None:
        try:
            with self._chain:
                # Unless the client was lost before the task began.
                if self._sock is not None:
                    await ctx.next()
        except TimeoutError:
            self._desk.door.late(ctx)

    def _done(self, ctx: Context) -> Coroutine[Any, Any, None] | None:
        door, status = self._desk.door, ctx.refusal_status
        if self._sock is None:
            door.lost(ctx)
            return None
        if status is None:
            return self._hand_over(ctx, door.let_in)
        door.refused(ctx, status)
        if CLOSE_CODE in ctx.keys:
            self._hand_over(ctx, door.turn_away)
        else:
            self._answer(refusal(ctx, status).encode())
        return None

    def _hand_over(self, ctx: Context, take: Callable[[Context, socket.socket, bytes], _T]) -> _T:
        """Give away the socket and what came in behind the head. It stays watched: `take` goes on with it."""
        sock, data = self._give_away()
        try:
            return take(ctx, sock, data[self._end :])
        except Exception:
            if sock.fileno() != -1:
                # Nobody took it: a link took out of the keys what is needed here.
                self._desk.door.poller.forget(sock.fileno())
                sock.close()
                self._desk.door.undo(ctx, was_let_in=ctx.refusal_status is None)
            raise

    # -- ending

    def _answer(self, out: bytes) -> None:
        """Send all of this and close."""
        self._out = out
        # The deadline so far was the chain's.
        self._desk.deadlines.end(self)
        self._desk.deadlines.begin(self)
        self.writable()
        if self._sock is not None:
            self._desk.door.poller.want_to_write(self._sock.fileno(), True)

    def writable(self) -> int:
        """Send what is left of an answer; how many bytes the kernel took."""
        if self._sock is None or not self._out:
            return 0
        sent = len(self._out)
        try:
            sent = self._sock.send(self._out)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            # Nobody reads it any more.
            pass
        self._out = self._out[sent:]
        if not self._out:
            self.cut()
        return sent

    def overdue(self) -> None:
        """The handshake took too long: the chain is ended and refuses; without a chain there is no answer."""
        if self._end and not self._out:
            self._chain.overdue()
        else:
            self.cut()

    def cut(self) -> None:
        """Close the socket. A chain that runs is ended and finds the client gone. Twice is once."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._desk.door.poller.forget(sock.fileno())
        sock.close()
        self._data = b""
        self._chain.overdue()
        self._desk.over(self)
