"""Tornado's request as the plain `HttpRequest` that the chain sees."""

from __future__ import annotations

import socket

from tornado.httputil import HTTPServerRequest

from pushserver.core.request import HttpRequest

__all__ = ["plain_request"]


def plain_request(request: HTTPServerRequest) -> HttpRequest:
    """The request with headers as sent and the peer of the socket, whatever headers say about it."""
    context = request.connection.context  # type: ignore[union-attr] # a request from a socket has one
    unix_socket = context.address_family == getattr(socket, "AF_UNIX", None)
    headers = [(name, value) for name, value in request.headers.get_all() if name != "Host"]
    return HttpRequest(
        method=request.method or "",
        path=request.path,
        query=request.query,
        headers=headers,
        peer="" if unix_socket or not context.address else context.address[0],
        unix_socket=unix_socket,
        host=request.headers.get("Host", ""),
    )
