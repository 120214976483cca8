"""Taking a socket out of Tornado's hands, held against the Tornado that is installed."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest
from tornado.iostream import IOStream

from pushserver.web.handover import HandoverProtocol, HeadStream, take_socket
from tests.pod import eventually
from tests.raw_http import handshake, head
from tests.web.doorway import doorway


@pytest.mark.gen_test
async def test_the_stream_does_not_close_a_socket_that_was_taken() -> None:
    ours, theirs = socket.socketpair()
    stream = IOStream(ours)
    theirs.send(b"request\r\n\r\nand more")
    assert await stream.read_until(b"\r\n\r\n") == b"request\r\n\r\n"
    sock, early = take_socket(stream)
    assert early == b"and more"
    stream.close()
    del stream
    gc.collect()
    sock.send(b"still open")
    assert theirs.recv(100) == b"still open"
    sock.close()
    theirs.close()


@pytest.mark.gen_test
async def test_a_stream_begins_with_what_was_read_before() -> None:
    """Also where that is more than a stream reads at once, and some of it is behind the request."""
    ours, theirs = socket.socketpair()
    head_read = b"request\r\n\r\n" + b"x" * 50_000
    stream = HeadStream(ours, head_read, max_buffer_size=100_000, chunk_size=4096)
    theirs.send(b"and more")
    assert await stream.read_until(b"\r\n\r\n") == b"request\r\n\r\n"
    sock, early = take_socket(stream)
    assert early + sock.recv(100) == b"x" * 50_000 + b"and more"
    sock.close()
    theirs.close()


@pytest.mark.gen_test
async def test_the_loop_is_free_for_another_reader_of_a_socket_that_was_taken() -> None:
    """Also when Tornado was listening for the client's end, as it does while a chain runs."""
    ours, theirs = socket.socketpair()
    stream = IOStream(ours)
    told = []
    stream.set_close_callback(lambda: told.append("closed"))
    sock, early = take_socket(stream)
    assert early == b""
    loop, read = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock.fileno(), read.set)
    theirs.close()
    await asyncio.wait_for(read.wait(), 5)
    assert sock.recv(1) == b""
    assert not told, "the stream must hear nothing any more"
    loop.remove_reader(sock.fileno())
    sock.close()


@pytest.mark.gen_test
async def test_the_http_server_forgets_a_connection_that_was_let_in() -> None:
    async with doorway() as door:
        await door.connect(headers=[("X-Odd", "\xe9")])
        await eventually(lambda: not door.server.unverified)
        await door.server.close_all_connections()
        client = door.clients[0]
        await client.send({"type": "ping"})
        assert await client.frame() == {"type": "pong"}


@pytest.mark.gen_test
async def test_frames_right_behind_the_request_are_not_lost() -> None:
    """They arrive in one segment with it, and are in Tornado's buffer."""
    async with doorway() as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        ping = b"\x89\x85\x00\x00\x00\x00early"
        close = b"\x88\x82\x00\x00\x00\x00\x03\xe8"
        writer.write(head(handshake(("X-Odd", "\xe9"), token=door.token())) + ping * 3 + close)
        answered = await asyncio.wait_for(reader.read(), 5)
        assert answered.startswith(b"HTTP/1.1 101 ")
        assert answered.endswith(b"\x8a\x05early" * 3 + b"\x88\x02\x03\xe8")
        writer.close()


@pytest.mark.gen_test
async def test_nothing_can_be_sent_through_tornados_interface() -> None:
    """Frames have one way out, through the connection's window."""
    protocol = HandoverProtocol(None, lambda sock, early: None)  # type: ignore[arg-type]
    assert protocol.is_closing()
    with pytest.raises(RuntimeError):
        protocol.write_message("text")
    with pytest.raises(RuntimeError):
        protocol.write_ping(b"")
    protocol.close()
    assert protocol.selected_subprotocol is None
