"""The door: where a handshake that passed the chain becomes a connection, and a socket's end is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from tornado.iostream import IOStream

from pushserver.core.client_ip import ClientIPRule
from pushserver.core.close_codes import CloseCode
from pushserver.core.context import Context, Handler
from pushserver.core.frames import Event
from pushserver.core.metrics import Metrics
from pushserver.core.request import HttpRequest
from pushserver.delivery.connection import Connection
from pushserver.delivery.presence import Presence
from pushserver.delivery.session import Sessions, Verified
from pushserver.stores.category_store import version_of
from pushserver.web.chain import CATEGORIES, CLIENT_IP, CLOSE_CODE, CREDENTIALS, IDENTITY, LOG_AT, USER
from pushserver.web.chain.admission import Admission
from pushserver.web.credentials import ACK_SUBPROTOCOL, Credentials
from pushserver.web.handover import take_socket
from pushserver.web.tokens import Identity
from pushserver.web.transport import SocketOptions, SocketTransport

__all__ = ["Door"]

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Door:
    """What the handler needs, built once: the chain, the sessions, the limits."""

    chain: Sequence[Handler]
    client_ip_rule: ClientIPRule
    sessions: Sessions
    presence: Presence
    admission: Admission
    metrics: Metrics
    socket_options: SocketOptions
    handshake_timeout_s: float
    leeway_s: float

    def context(self, request: HttpRequest) -> Context:
        """A context for one handshake, with the chain."""
        return Context(request, self.client_ip_rule, self.chain, full_path="/ws")

    def let_in(self, ctx: Context, stream: IOStream, head: bytes) -> None:
        """Take the socket over and open the connection; the 101 goes out with the first frames."""
        client_ip: str = ctx.must_get(CLIENT_IP)
        sock, early = take_socket(stream)
        transport = SocketTransport(sock, self, self.socket_options, client_ip, head)
        credentials: Credentials = ctx.must_get(CREDENTIALS)
        try:
            self.socket_options.apply(sock)
            connection = self.sessions.open(
                self._verified(ctx),
                client_ip=client_ip,
                ack_mode=credentials.subprotocol == ACK_SUBPROTOCOL,
                transport=transport,
            )
        except Exception:
            # No socket and no slot may be left behind by an error of ours.
            transport.abort()
            raise
        transport.connection = connection
        transport.start(early)
        self.metrics.handshakes.labels("101").inc()
        log.debug("connection.opened", connection=connection.id, user=connection.user, client_ip=client_ip)

    def _verified(self, ctx: Context) -> Verified:
        identity: Identity = ctx.must_get(IDENTITY)
        return Verified(
            user=ctx.must_get(USER),
            expires_at=identity.expires_at + self.leeway_s,
            token_expires=identity.expires_at,
            categories=(categories := ctx.must_get(CATEGORIES)),
            categories_version=version_of(categories),
            log_at=ctx.must_get(LOG_AT),
        )

    def turn_away(self, ctx: Context, stream: IOStream, head: bytes) -> None:
        """Upgrade only to close: a browser cannot read the status of a refusal. Nothing is registered."""
        client_ip: str = ctx.must_get(CLIENT_IP)
        sock, early = take_socket(stream)
        self.admission.stays(client_ip)
        transport = SocketTransport(sock, self, self.socket_options, client_ip, head)
        transport.close(ctx.must_get(CLOSE_CODE), "")
        transport.start(early)

    def undo(self, ctx: Context, *, was_let_in: bool) -> None:
        """The handshake comes to nothing: undo what links of the chain did for it."""
        if was_let_in:
            self.admission.left(ctx.must_get(CLIENT_IP))
        if USER in ctx.keys:
            # The index of this pod's users may have been told of them.
            self.presence.mark(ctx.must_get(USER))

    # -- what sockets tell (transport.Owner)

    def received(self, connection: Connection, events: list[Event], frames: int) -> None:
        """Pass on to the sessions."""
        self.sessions.received(connection, events, frames)

    def violated(self, connection: Connection, code: CloseCode, reason: str) -> None:
        """Pass on to the sessions: who is said goodbye to counts no more."""
        self.sessions.end(connection, code, reason)

    def ended(self, connection: Connection | None, client_ip: str, code: int | None) -> None:
        """A socket is closed: whoever was let in, or only turned away by it, has left."""
        self.admission.left(client_ip)
        if connection is not None:
            self.sessions.closed(connection, code)
            log.debug("connection.closed", connection=connection.id, user=connection.user, code=code)
