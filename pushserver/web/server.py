"""The public listener: the front, and behind it Tornado's HTTP server with deadlines and no bodies."""

from __future__ import annotations

import ssl
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.web import Application

from pushserver.web.arrival import MAX_EARLY_BYTES
from pushserver.web.browser_client import CLIENT_PATH, BrowserClient
from pushserver.web.demo import Demo, demo_routes
from pushserver.web.door import Door
from pushserver.web.front import CHUNK_BYTES, Front
from pushserver.web.handler import NotFound, PushHandler
from pushserver.web.head import MAX_HEAD_BYTES, PATH

__all__ = ["public_server"]


def public_server(door: Door, tls: ssl.SSLContext | None = None, demo: Demo | None = None) -> Front:
    """The server for clients: `/ws`, the client for browsers, and in development mode `demo`.

    With TLS if there is a certificate.

    Bodies are read before `prepare`, so a request with one of more than a byte is refused by its header;
    without a time-out a client could take an hour for its body.
    """
    routes: list[Any] = [(PATH, PushHandler, {"door": door}), (CLIENT_PATH, BrowserClient)]
    application = Application(
        routes + (demo_routes(demo) if demo is not None else []),
        default_handler_class=NotFound,
        log_function=lambda handler: None,
        compress_response=False,
    )
    http = HTTPServer(
        application,
        xheaders=False,
        # A refused handshake ends its connection: the deadline runs from the accept.
        no_keep_alive=True,
        idle_connection_timeout=door.handshake_timeout_s,
        body_timeout=door.handshake_timeout_s,
        max_header_size=MAX_HEAD_BYTES,
        max_body_size=1,
        max_buffer_size=MAX_EARLY_BYTES,
        chunk_size=CHUNK_BYTES,
    )
    return Front(door, http, tls)
