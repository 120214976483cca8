"""An arrival on a listener with TLS: before its head comes the handshake of TLS."""

from __future__ import annotations

import asyncio
import ssl

from pushserver.web.arrival import Arrival
from pushserver.web.tls import TlsSocket

__all__ = ["TlsArrival"]


class TlsArrival(Arrival):
    """As `Arrival`, on a `TlsSocket`. Its deadline is one for both handshakes, from the accept on."""

    __slots__ = ()

    def begin(self) -> None:
        """Wait for the client to begin.

        Not at once, as without TLS: many are accepted in one callback, and each costs a signature.
        """
        if self._sock is not None:
            asyncio.get_running_loop().add_reader(self._sock.fileno(), self._secure)

    def _secure(self) -> None:
        """One step of the handshake; none of them blocks."""
        sock = self._sock
        if not isinstance(sock, TlsSocket):
            return
        loop = asyncio.get_running_loop()
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            loop.remove_writer(sock.fileno())
        except ssl.SSLWantWriteError:
            loop.add_writer(sock.fileno(), self._secure)
        except OSError:
            # No TLS, none that we speak, or gone: nobody who would read an answer.
            self._desk.door.metrics.handshakes.labels("tls").inc()
            self.cut()
        else:
            loop.remove_reader(sock.fileno())
            loop.remove_writer(sock.fileno())
            super().begin()
