"""An arrival on a listener with TLS: before its head comes the handshake of TLS."""

from __future__ import annotations

import ssl
from typing import Any

from pushserver.web.arrival import Arrival, Desk
from pushserver.web.tls import TlsSocket

__all__ = ["TlsArrival"]

STEP_BYTES = 32 * 1024
"""What a step costs, in what is read in one turn of the loop: a signature takes milliseconds."""


class TlsArrival(Arrival):
    """As `Arrival`, on a `TlsSocket`. Its deadline is one for both handshakes, from the accept on."""

    __slots__ = ("_secured",)

    def __init__(self, desk: Desk, sock: TlsSocket, address: Any, *, unix_socket: bool) -> None:
        super().__init__(desk, sock, address, unix_socket=unix_socket)
        self._secured = False

    def begin(self) -> None:
        """Wait for the client to begin.

        Not at once, as without TLS: many are accepted in one callback, and each costs a signature.
        """
        self._watch()

    def readable(self) -> int:
        """One step of TLS' handshake, and behind it what `Arrival` reads. None of them blocks."""
        if self._secured:
            return super().readable()
        self._secure()
        return STEP_BYTES

    def writable(self) -> None:
        """As `readable`."""
        if self._secured:
            super().writable()
        else:
            self._secure()

    def _secure(self) -> None:
        sock = self._sock
        if not isinstance(sock, TlsSocket):
            return
        poller = self._desk.door.poller
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            poller.want_to_write(sock.fileno(), False)
        except ssl.SSLWantWriteError:
            poller.want_to_write(sock.fileno(), True)
        except OSError:
            # No TLS, none that we speak, or gone: nobody who would read an answer.
            self._desk.door.metrics.handshakes.labels("tls").inc()
            self.cut()
        else:
            self._secured = True
            poller.want_to_write(sock.fileno(), False)
            super().begin()
