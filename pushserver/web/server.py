"""Tornado's HTTP server with what a public listener needs: deadlines and no bodies."""

from __future__ import annotations

import time
from typing import Any

from tornado.iostream import IOStream
from tornado.web import Application

from pushserver.core.metrics import Metrics
from pushserver.web.door import Door
from pushserver.web.handler import NotFound, PushHandler
from pushserver.web.listener import Listener

__all__ = ["PublicServer", "public_server"]

MAX_HEADER_BYTES = 32 * 1024
MAX_READ_BUFFER = 128 * 1024
MAX_UNVERIFIED = 5000
"""Connections on which the handshake has not ended yet, whose requests may not even have been read."""


class PublicServer(Listener):
    """Notes when connections were accepted, as their deadlines run from there, and bounds their number.

    Those that the chain let in are not among them: their sockets were taken out of Tornado's hands.
    """

    def initialize(self, application: Application, *, metrics: Metrics, **options: Any) -> None:  # type: ignore[override]
        """What Tornado calls in place of a constructor."""
        self._metrics = metrics
        super().initialize(application, **options)

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """As Tornado, with the time; beyond `MAX_UNVERIFIED` the connection is closed unread."""
        if len(self._connections) >= MAX_UNVERIFIED:
            self._metrics.handshakes.labels("crowded").inc()
            stream.close()
            return
        stream.accepted_at = time.monotonic()  # type: ignore[attr-defined]
        super().handle_stream(stream, address)


def public_server(door: Door) -> PublicServer:
    """The server for clients: `/ws` and nothing else.

    Bodies are read before `prepare`, so a request with one of more than a byte is refused by its header;
    without an idle time-out a client could take an hour for its headers.
    """
    application = Application(
        [("/ws", PushHandler, {"door": door})],
        default_handler_class=NotFound,
        log_function=lambda handler: None,
        compress_response=False,
    )
    return PublicServer(
        application,
        metrics=door.metrics,
        xheaders=False,
        # A refused handshake ends its connection: the deadline runs from the accept.
        no_keep_alive=True,
        idle_connection_timeout=door.handshake_timeout_s,
        body_timeout=door.handshake_timeout_s,
        max_header_size=MAX_HEADER_BYTES,
        max_body_size=1,
        max_buffer_size=MAX_READ_BUFFER,
        chunk_size=16 * 1024,
    )
