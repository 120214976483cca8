"""The door: where a handshake that passed the chain becomes a connection, and a socket's end is noticed."""

from __future__ import annotations

import logging
import socket
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from pushserver.core.client_ip import ClientIPRule
from pushserver.core.close_codes import CloseCode
from pushserver.core.context import Context, Handler
from pushserver.core.deflate_offer import Agreement, agree
from pushserver.core.frames import Event
from pushserver.core.metrics import Metrics
from pushserver.core.request import HttpRequest
from pushserver.delivery.connection import Connection
from pushserver.delivery.presence import Presence
from pushserver.delivery.session import Sessions, Verified
from pushserver.delivery.tasks import Tasks
from pushserver.stores.category_store import version_of
from pushserver.web.chain import (
    CATEGORIES,
    CLIENT_IP,
    CLOSE_CODE,
    CODE,
    CREDENTIALS,
    IDENTITY,
    LOG_AT,
    REASON,
    USER,
)
from pushserver.web.chain.admission import Admission
from pushserver.web.chain.refuse import refuse
from pushserver.web.credentials import ACK_SUBPROTOCOL, Credentials
from pushserver.web.poller import Poller
from pushserver.web.tokens import Identity
from pushserver.web.transport import SocketOptions, SocketTransport
from pushserver.web.upgrade import switching_protocols

__all__ = ["Door"]

_EXTENSIONS = "Sec-WebSocket-Extensions"

log = structlog.get_logger(__name__)
_debug = logging.getLogger(__name__)
"""Knows the level: making a line that nobody wants costs as much as parsing a request."""


@dataclass(slots=True)
class Door:
    """What whoever reads a handshake needs, built once: the chain, what comes of it, the limits."""

    chain: Sequence[Handler]
    client_ip_rule: ClientIPRule
    sessions: Sessions
    presence: Presence
    admission: Admission
    metrics: Metrics
    tasks: Tasks
    socket_options: SocketOptions
    poller: Poller
    handshake_timeout_s: float
    leeway_s: float
    deflate: bool = False
    """Whether compression is negotiated."""

    def context(self, request: HttpRequest) -> Context:
        """A context for one handshake, with the chain."""
        return Context(request, self.client_ip_rule, self.chain, full_path="/ws")

    # -- how a chain ends

    def let_in(self, ctx: Context, sock: socket.socket, early: bytes) -> Coroutine[Any, Any, None]:
        """Take the socket over and open the connection; the 101 goes out with the first frames.

        What comes back is to be awaited in a task, now: it serves the connection until it is live. `early`
        is what the client sent behind its request.
        """
        credentials: Credentials = ctx.keys[CREDENTIALS]
        # Who does not wait for the answer cannot know what was agreed on.
        agreed = agree(ctx.request.header_lines(_EXTENSIONS)) if self.deflate and not early else None
        transport = self._take_over(ctx, sock, agreed)
        try:
            who = self._verified(ctx)
            connection = self.sessions.open(
                who,
                client_ip=ctx.keys[CLIENT_IP],
                ack_mode=credentials.subprotocol == ACK_SUBPROTOCOL,
                transport=transport,
                deflates_up_to=agreed.most if agreed else 0,
            )
        except Exception:
            # No socket and no slot may be left behind by an error of ours.
            transport.abort()
            raise
        transport.connection = connection
        transport.start(early)
        self.metrics.let_in.inc()
        if _debug.isEnabledFor(logging.DEBUG):
            log.debug(
                "connection.opened",
                connection=connection.id,
                user=connection.user,
                client_ip=connection.client_ip,
            )
        return self.sessions.serve(connection, who.categories_version)

    def _take_over(self, ctx: Context, sock: socket.socket, agreed: Agreement | None) -> SocketTransport:
        credentials: Credentials = ctx.keys[CREDENTIALS]
        head = switching_protocols(ctx.request, credentials.subprotocol, agreed.answer if agreed else "")
        return SocketTransport(
            sock,
            self,
            self.socket_options,
            self.poller,
            client_ip=ctx.keys[CLIENT_IP],
            head=head,
            inflates=agreed is not None,
        )

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

    def turn_away(self, ctx: Context, sock: socket.socket, early: bytes) -> None:
        """Upgrade only to close: a browser cannot read the status of a refusal. Nothing is registered."""
        transport = self._take_over(ctx, sock, None)
        self.admission.stays(ctx.must_get(CLIENT_IP))
        transport.close(ctx.must_get(CLOSE_CODE), "")
        transport.start(early)

    def late(self, ctx: Context) -> None:
        """The chain took too long and was ended: refuse."""
        refuse(ctx, 503, "timeout", "the handshake took too long", retry_after_s=1)

    def refused(self, ctx: Context, status: int) -> None:
        """The chain refused: count it, undo what it did, and say so."""
        self.metrics.handshakes.labels(ctx.get_string(CODE) or str(status)).inc()
        self.undo(ctx, was_let_in=False)
        log.info(
            "handshake.refused",
            status=status,
            reason=ctx.get_string(REASON),
            client_ip=ctx.get_string(CLIENT_IP),
            path=ctx.request.path,
        )

    def lost(self, ctx: Context) -> None:
        """The client was gone before the chain came to its end."""
        self.metrics.handshakes.labels("lost").inc()
        self.undo(ctx, was_let_in=ctx.refusal_status is None)

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
            if _debug.isEnabledFor(logging.DEBUG):
                log.debug("connection.closed", connection=connection.id, user=connection.user, code=code)
