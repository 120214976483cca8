"""The listener: binding, and accepting connections, also when there are no descriptors left for them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import Any, cast

import structlog
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets

from pushserver.core.errors import ConfigError

__all__ = ["Listener", "PausingSocket", "bind"]

log = structlog.get_logger(__name__)

PAUSE_S = 0.5
"""How long nothing is accepted after the system had no descriptor or memory for a connection."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def bind(section: str, host: str, port: int, *, reuse_port: bool) -> list[socket.socket]:
    """Bind; who connects waits until a server takes over. Raises `ConfigError` for the section's `port`."""
    try:
        return bind_sockets(port, address=host, backlog=1024, reuse_port=reuse_port)
    except OSError as error:
        raise ConfigError(f"{section}.port", f"{host}:{port} cannot be used: {error.strerror}") from None


class PausingSocket:
    """A listening socket for Tornado, which tells only what it asks of one: `fileno`, `accept`, `close`.

    Without descriptors `accept` fails and the connection stays in the queue, so the loop would call again
    at once and for ever, with a traceback each time. Here it looks as if nobody came, and is asked again
    `PAUSE_S` later.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        """As of the socket; -1 once closed."""
        return self._sock.fileno()

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection. Raises `BlockingIOError` when there is none, or none can be taken now."""
        try:
            return self._sock.accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._pause(error)
            raise BlockingIOError from None

    def _pause(self, error: OSError) -> None:
        log.error("accept.paused", reason=error.strerror, pause_s=PAUSE_S)
        loop = IOLoop.current()
        loop.update_handler(self.fileno(), 0)
        loop.call_later(PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self.fileno() != -1:
            IOLoop.current().update_handler(self.fileno(), IOLoop.READ)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


class Listener(HTTPServer):
    """Tornado's HTTP server on sockets that pause."""

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept on these sockets, which are in non-blocking mode."""
        super().add_sockets(cast(socket.socket, PausingSocket(sock)) for sock in sockets)
