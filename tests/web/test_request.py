"""Tornado's request as the plain one that the chain sees."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from tornado.netutil import bind_unix_socket

from pushserver.core.context import Context
from pushserver.core.request import HttpRequest
from tests.raw_http import ask, handshake, head, read_answer
from tests.web.doorway import doorway


class Seen:
    """A link that keeps the request and refuses."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []

    def __call__(self, ctx: Context) -> None:
        self.requests.append(ctx.request)
        ctx.abort()


@pytest.mark.gen_test
async def test_the_request_is_handed_over_as_it_was_sent() -> None:
    seen = Seen()
    async with doorway(links=[seen]) as door:
        more = [("X-Twice", "1"), ("X-Other", ""), ("x-twice", "2, 3"), ("X-Latin", "\xe9")]
        await door.ask(*more, path="/ws?b=%41&a=1&a=2", host="push.example:8000")
    (request,) = seen.requests
    assert (request.method, request.path, request.query) == ("GET", "/ws", "b=%41&a=1&a=2")
    assert request.host == "push.example:8000"
    assert request.peer == "127.0.0.1"
    assert not request.unix_socket
    assert request.header("host") == "", "as in Go: Host has its own field"
    assert request.header_lines("X-Twice") == ["1", "2, 3"]
    assert request.header_lines("X-Other") == [""]
    assert request.header("X-Latin") == "\xe9"


@pytest.mark.gen_test
async def test_what_headers_say_about_the_peer_is_left_to_the_chain() -> None:
    """Tornado's own `xheaders` would believe anybody."""
    seen = Seen()
    async with doorway(links=[seen]) as door:
        await door.ask(("X-Forwarded-For", "203.0.113.9"), ("X-Real-Ip", "203.0.113.9"))
    assert seen.requests[0].peer == "127.0.0.1"


@pytest.mark.gen_test
async def test_a_client_of_a_unix_socket_has_no_address(tmp_path: Path) -> None:
    seen = Seen()
    async with doorway(links=[seen]) as door:
        path = str(tmp_path / "socket")
        door.server.add_sockets([bind_unix_socket(path)])
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(head(handshake(token=door.token())))
        assert (await read_answer(reader)).status == 403
        writer.close()
    (request,) = seen.requests
    assert (request.peer, request.unix_socket) == ("", True)


@pytest.mark.gen_test
async def test_an_ipv6_peer_is_told_without_port_and_scope() -> None:
    if not socket.has_ipv6:
        pytest.skip("needs IPv6")
    seen = Seen()
    async with doorway(links=[seen]) as door:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
        listening.setblocking(False)
        door.server.add_sockets([listening])
        reader, writer = await asyncio.open_connection("::1", listening.getsockname()[1])
        writer.write(head(handshake(token=door.token())))
        assert (await read_answer(reader)).status == 403
        writer.close()
    assert seen.requests[0].peer == "::1"


@pytest.mark.gen_test
async def test_a_request_without_a_host_is_400_before_the_chain() -> None:
    seen = Seen()
    async with doorway(links=[seen]) as door:
        assert (await ask(door.port, handshake(token=door.token(), host=None))).status == 400
        assert (await door.ask(("Host", "two.example"))).status == 400
    assert not seen.requests
