"""Accepting connections, also when there are no descriptors left."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs
from tornado.netutil import bind_sockets

from pushserver.web import listener as module
from pushserver.web.listener import PausingSocket
from tests.pod import eventually
from tests.raw_http import handshake, head, read_answer
from tests.web.doorway import doorway


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Nothing can be opened or accepted meanwhile; what is open stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.gen_test
async def test_without_descriptors_it_pauses_and_then_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is told again and again of a connection it cannot take would do nothing else."""
    monkeypatch.setattr(module, "PAUSE_S", 0.5)
    async with doorway() as door:
        bystander = await door.connect("bob")
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=2**16)
        other = socket.create_connection(("127.0.0.1", door.port))
        await eventually(lambda: door.server.unverified == 2)
        waiting = socket.socket()
        waiting.setblocking(False)
        with no_descriptor_left(), capture_logs() as lines:
            await asyncio.get_running_loop().sock_connect(waiting, ("127.0.0.1", door.port))
            await eventually(lambda: len(lines) >= 2)
            told, turns = len(lines), 0
            while len(lines) == told:
                turns += 1
                await bystander.send({"type": "ping"})
                assert await bystander.frame() == {"type": "pong"}
                await asyncio.sleep(0.01)
        assert turns > 1, "the loop has time for others between two tries"
        assert {line["event"] for line in lines} == {"accept.paused"}
        await eventually(lambda: door.server.unverified == 3)
        writer.write(head(handshake(token="x")))
        assert (await read_answer(reader)).status == 401
        writer.close()
        other.close()
        waiting.close()
        await eventually(lambda: not door.server.unverified)


@pytest.mark.gen_test
async def test_a_listener_that_was_closed_while_it_paused_stays_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    async with doorway() as door:
        waiting = socket.socket()
        waiting.setblocking(False)
        with no_descriptor_left(), capture_logs() as lines:
            await asyncio.get_running_loop().sock_connect(waiting, ("127.0.0.1", door.port))
            await eventually(lambda: lines)
            door.server.stop()
        loop = asyncio.get_running_loop()
        resumed = loop.time() + 0.02
        await eventually(lambda: loop.time() > resumed)
        assert not door.server.unverified
        assert not caplog.records
        waiting.close()


@pytest.mark.gen_test
async def test_any_other_failure_to_accept_is_told() -> None:
    class Broken(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            raise OSError(errno.EINVAL, "not listening")

    with Broken() as broken, pytest.raises(OSError, match="not listening"):
        PausingSocket(broken).accept()


@pytest.mark.gen_test
async def test_nobody_there_is_no_failure() -> None:
    (sock,) = bind_sockets(0, "127.0.0.1")
    listening = PausingSocket(sock)
    with pytest.raises(BlockingIOError):
        listening.accept()
    listening.close()
    assert listening.fileno() == -1
