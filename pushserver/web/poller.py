"""Tells which clients' sockets are ready: one epoll of their own, which the loop sees as one descriptor.

The loop would keep a handle, a key and their tuples for each connection, and make a callback of each event.
Here a connection is an entry in a dict, and an event is a call.
"""

from __future__ import annotations

import asyncio
import select
from typing import Protocol

__all__ = ["BYTES_AT_ONCE", "EVENTS_AT_ONCE", "Poller", "Watched"]

EVENTS_AT_ONCE = 500
"""Told in one turn of the loop at most, the others in the next: as many as are pushed to in one."""
BYTES_AT_ONCE = 64 * 1024
"""Read in one turn, or what takes as long: bytes and not time, or a slow machine would hardly read at all."""

_READABLE = select.EPOLLIN
_WRITABLE = select.EPOLLOUT
_BOTH = select.EPOLLIN | select.EPOLLOUT


class Watched(Protocol):
    """Who is told of a socket. Either may be called for nothing, and must not block."""

    def readable(self) -> int:
        """Something has come in, or the other side is gone, or there is an error to be read.

        Answers how many bytes were read, or how many would have cost as much.
        """

    def writable(self) -> int:
        """The kernel takes more. Answers as `readable`."""


class Poller:
    """Watches sockets by their descriptors, on one loop: that which runs when the first of them comes.

    A descriptor must be given back (`forget`) before it is closed.
    """

    __slots__ = ("_epoll", "_loop", "_put_off", "_watched")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._loop: asyncio.AbstractEventLoop | None = None
        """While there is something to watch."""
        self._watched: dict[int, Watched] = {}
        self._put_off: list[tuple[int, int]] = []
        """Descriptors and events that were too much for the turn before."""

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, descriptor: int, watched: Watched) -> None:
        """Tell `watched` when it is readable, from now on instead of whoever was told before."""
        if descriptor not in self._watched:
            self._epoll.register(descriptor, _READABLE)
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
                self._loop.add_reader(self._epoll.fileno(), self._look)
        self._watched[descriptor] = watched

    def want_to_write(self, descriptor: int, wanted: bool) -> None:
        """Whether to tell when it is writable, too."""
        self._epoll.modify(descriptor, _BOTH if wanted else _READABLE)

    def forget(self, descriptor: int) -> None:
        """Tell nobody of it any more. Twice is once."""
        if self._watched.pop(descriptor, None) is None:
            return
        self._epoll.unregister(descriptor)
        if not self._watched and self._loop is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._loop = None

    def _look(self) -> None:
        watched, budget = self._watched, BYTES_AT_ONCE
        ready, self._put_off = self._put_off or self._epoll.poll(0, EVENTS_AT_ONCE), []
        for number, (descriptor, events) in enumerate(ready, 1):
            one = watched.get(descriptor)
            # None if what another was told has ended it. Whoever has its descriptor by now finds nothing.
            if one is not None:
                budget -= self._tell(one, events)
                if budget <= 0:
                    # First in the next turn: the kernel would name those again that are always ready.
                    self._put_off = ready[number:]
                    return

    def _tell(self, one: Watched, events: int) -> int:
        cost = 0
        try:
            # An error or a hang-up is found by reading.
            if events != _WRITABLE:
                cost = one.readable()
            if events & _WRITABLE:
                cost += one.writable()
        except Exception as error:
            # One connection's trouble must not keep the others' from being told.
            asyncio.get_running_loop().call_exception_handler(
                {"message": "telling a connection of its socket failed", "exception": error}
            )
        return cost
