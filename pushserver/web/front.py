"""The front: accepts the clients' sockets, bounds those that are not verified, and keeps their deadlines."""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from pushserver.delivery.deadlines import Deadlines
from pushserver.web.arrival import MAX_EARLY_BYTES, Arrival
from pushserver.web.chain.admission import address_key
from pushserver.web.door import Door
from pushserver.web.handover import HeadStream
from pushserver.web.listener import PausingSocket
from pushserver.web.poller import BYTES_AT_ONCE
from pushserver.web.tls import MAX_READ_BYTES, TlsSocket
from pushserver.web.tls_arrival import TlsArrival

__all__ = ["Front"]

MAX_UNVERIFIED = 5000
"""Sockets on which the handshake has not ended yet, whose requests may not even have been read."""
ACCEPT_AT_ONCE = 32
"""Accepted in one callback: each of them may bring a costly head."""
CHUNK_BYTES = MAX_READ_BYTES


class Front:
    """The public listener. Handshakes are read here; all other requests are `http`'s, with what was read.

    Those that the chain let in are not among the unverified: their sockets are `SocketTransport`s by then.
    """

    def __init__(self, door: Door, http: HTTPServer, tls: ssl.SSLContext | None = None) -> None:
        self.door = door
        self.tls = tls
        """What those who are accepted from now on are shown, by `tls.load_certificate`; None for no TLS."""
        self.deadlines = Deadlines(door.handshake_timeout_s)
        """From the accept on."""
        self.arrivals: set[Arrival] = set()
        """Those whose heads are being read, that are in the chain or being refused."""
        self._by_address: Counter[str] = Counter()
        """Unverified sockets of each address, those at Tornado's server included."""
        self._http = http
        self._sockets: list[PausingSocket] = []

    @property
    def unverified(self) -> int:
        """Sockets on which the handshake has not ended."""
        return len(self.arrivals) + len(self._http._connections)

    # -- listening

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept on these sockets, which are in non-blocking mode."""
        for sock in sockets:
            # What is accepted has the options of who listened.
            self.door.socket_options.apply(sock)
            listening = PausingSocket(sock)
            self._sockets.append(listening)
            is_unix = sock.family == getattr(socket, "AF_UNIX", None)
            IOLoop.current().add_handler(listening, partial(self._accept, is_unix), IOLoop.READ)

    def stop(self) -> None:
        """Accept no more. Twice is once."""
        for listening in self._sockets:
            IOLoop.current().remove_handler(listening)
            listening.close()
        self._sockets.clear()

    def _accept(self, is_unix: bool, listening: PausingSocket, _events: int) -> None:
        budget = BYTES_AT_ONCE
        for _ in range(ACCEPT_AT_ONCE):
            if budget <= 0:
                return
            try:
                sock, address = listening.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                # Closed while it was in the queue.
                continue
            budget -= self._arrive(sock, address, is_unix)

    def _arrive(self, sock: socket.socket, address: Any, is_unix: bool) -> int:
        """Beyond `MAX_UNVERIFIED` a socket is closed unread, and beyond what its address may have.

        Answers what reading cost, in bytes.
        """
        peer = "" if is_unix else address[0]
        if self.unverified >= MAX_UNVERIFIED or self._has_too_many(peer):
            self.door.metrics.handshakes.labels("crowded").inc()
            sock.close()
            return 0
        sock.setblocking(False)
        arrival = self._arrival(sock, address, is_unix)
        self.arrivals.add(arrival)
        self._by_address[arrival.peer] += 1
        self.deadlines.begin(arrival)
        return arrival.begin()

    def _has_too_many(self, peer: str) -> bool:
        """More would be refused by `Admission`, and one address must not keep everybody else from being read.

        Of a trusted proxy, and of a Unix socket, nothing is known before the head was read.
        """
        most = self.door.admission.per_ip
        if not peer or not most or self._by_address[address_key(peer)] < most:
            return False
        return not self.door.client_ip_rule.trusts(peer)

    def _gone(self, peer: str) -> None:
        self._by_address[peer] -= 1
        if not self._by_address[peer]:
            del self._by_address[peer]

    def _arrival(self, sock: socket.socket, address: object, is_unix: bool) -> Arrival:
        if self.tls is None:
            return Arrival(self, sock, address, unix_socket=is_unix)
        return TlsArrival(self, TlsSocket(sock, self.tls), address, unix_socket=is_unix)

    # -- what arrivals tell (arrival.Desk)

    def over(self, arrival: Arrival) -> None:
        """Its socket is closed, or another's."""
        self.deadlines.end(arrival)
        if arrival in self.arrivals:
            self.arrivals.discard(arrival)
            self._gone(arrival.peer)

    def to_tornado(self, arrival: Arrival, sock: socket.socket, data: bytes) -> None:
        """Let Tornado's server answer, within the same deadline."""
        stream = HeadStream(sock, data, max_buffer_size=MAX_EARLY_BYTES, chunk_size=CHUNK_BYTES)
        stream.accepted_at = arrival.accepted_at
        self._by_address[arrival.peer] += 1
        stream.on_gone = partial(self._gone, arrival.peer)
        self._http.handle_stream(stream, arrival.address)

    async def close_all_connections(self) -> None:
        """Cut all that did not come in, here and at Tornado."""
        for arrival in list(self.arrivals):
            arrival.cut()
        self.deadlines.close()
        await self._http.close_all_connections()
