"""An arrival on a listener with TLS: before its head comes the handshake of TLS."""

from __future__ import annotations

import ssl
from typing import Any

from pushserver.web.arrival import Arrival, Desk
from pushserver.web.tls import TlsSocket

__all__ = ["TlsArrival"]


class TlsArrival(Arrival):
    """As `Arrival`, on a `TlsSocket`. Its deadline is one for both handshakes, from the accept on."""

    __slots__ = ("_secured", "_wants_to_write")

    def __init__(self, desk: Desk, sock: TlsSocket, address: Any, *, unix_socket: bool) -> None:
        super().__init__(desk, sock, address, unix_socket=unix_socket)
        self._secured = False
        self._wants_to_write = False

    def begin(self) -> int:
        """Wait for the client to begin; costs nothing yet.

        Not at once, as without TLS: many are accepted in one callback, and each costs a signature.
        """
        self._watch()
        return 0

    def readable(self) -> int:
        """One step of TLS' handshake, and behind it what `Arrival` reads. None of them blocks."""
        return super().readable() if self._secured else self._secure()

    def writable(self) -> int:
        """As `readable`."""
        return super().writable() if self._secured else self._secure()

    def _secure(self) -> int:
        sock = self._sock
        if not isinstance(sock, TlsSocket):
            return 0
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            self._want_to_write(sock, False)
        except ssl.SSLWantWriteError:
            self._want_to_write(sock, True)
        except OSError:
            # No TLS, none that we speak, or gone: nobody who would read an answer.
            self._desk.door.metrics.handshakes.labels("tls").inc()
            self.cut()
        else:
            self._secured = True
            self._want_to_write(sock, False)
            # Of this step, and not of the read that follows in the same callback.
            cost = sock.cost
            super().begin()
            return cost
        return sock.cost

    def _want_to_write(self, sock: TlsSocket, wanted: bool) -> None:
        if wanted is not self._wants_to_write:
            self._wants_to_write = wanted
            self._desk.door.poller.want_to_write(sock.fileno(), wanted)
