"""The public listener as clients meet it: what it reads itself and what it leaves to Tornado look alike."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.testing import bind_unused_port

from pushserver.app import App
from pushserver.core.context import Context
from pushserver.web import arrival as module
from pushserver.web.front import Front
from pushserver.web.head import read_head
from tests.callbacks import short_callbacks
from tests.client import Closed
from tests.cpu_time import measured_again
from tests.pod import eventually
from tests.raw_http import Answer, handshake, head, read_answer
from tests.web.doorway import Doorway, doorway
from tests.web.test_head import HOSTILE

ODD = ("X-Odd", "\xe9")
"""Makes a head none that the front reads itself: Tornado does."""
PING = b"\x89\x85\x00\x00\x00\x00early"
PONG = b"\x8a\x05early"
CLOSE = b"\x88\x82\x00\x00\x00\x00\x03\xe8"


async def send(port: int, *parts: bytes) -> Answer:
    """The answer to what is sent in these parts, a turn of the loop between any two."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(0)
    answer = await read_answer(reader)
    writer.close()
    return answer


@asynccontextmanager
async def tornado_alone(door: Doorway) -> AsyncIterator[int]:
    """The port of a Tornado server with the same settings and handlers, without a front."""
    http: HTTPServer = door.server._http
    handle_stream = http.handle_stream

    def with_time(stream: IOStream, address: Any) -> None:
        if not hasattr(stream, "accepted_at"):
            stream.accepted_at = time.monotonic()  # type: ignore[attr-defined]
        handle_stream(stream, address)

    http.handle_stream = with_time
    sock, port = bind_unused_port()
    http.add_socket(sock)
    yield port
    http.stop()


@pytest.mark.gen_test
async def test_whatever_tornado_refuses_is_refused_with_the_same_answer() -> None:
    async with doorway(limits={"handshake_timeout_s": 1}) as door, tornado_alone(door) as port:
        for name, sent in HOSTILE.items():
            if name in {"not whole", "nothing"}:
                continue
            ours, theirs = await asyncio.gather(send(door.port, sent), send(port, sent))
            assert ours.status == theirs.status, name
            assert ours.body == theirs.body, name


@pytest.mark.gen_test
async def test_a_refusal_is_the_same_whoever_read_the_request() -> None:
    def refuse(ctx: Context) -> None:
        ctx.header("X-Reason", "because\r\nX-Forged: 1")
        ctx.header("X-Bad\r\nX-Forged", "1")
        ctx.header("Content-Length", "7")
        ctx.header("Transfer-Encoding", "chunked")
        ctx.abort_with_status_json(418, {"level": 3})

    async with doorway(links=[refuse]) as door:
        for changed in ({}, {"token": "bad"}, {"token": ""}):
            answers = [await door.ask(*more, **changed) for more in ((), (ODD,))]
            assert answers[0].status in {401, 418}
            assert answers[0].status == answers[1].status
            assert answers[0].body == answers[1].body
            first, second = ({**one.headers, "date": ""} for one in answers)
            assert first == second
            assert "x-forged" not in first
            assert first["content-length"] == str(len(answers[0].body))


@pytest.mark.gen_test
@pytest.mark.parametrize("more", [(), (ODD,)], ids=["front", "Tornado"])
async def test_a_request_may_come_in_pieces_with_frames_behind_it(more: Any) -> None:
    async with doorway() as door:
        raw = head(handshake(*more, token=door.token())) + PING + CLOSE
        end = len(raw) - len(PING + CLOSE)
        for cut in (1, 10, 17, 30, end - 4, end - 3, end - 2, end - 1, end, end + 1, end + 7):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(raw[:cut])
            if cut < end:
                await eventually(lambda: [one for one in door.server.arrivals if one._data])
            writer.write(raw[cut:])
            answered = await asyncio.wait_for(reader.read(), 10)
            assert answered.startswith(b"HTTP/1.1 101 "), cut
            assert PONG in answered, cut
            writer.close()


@pytest.mark.gen_test
async def test_a_request_may_come_byte_by_byte() -> None:
    async with doorway() as door:
        raw = head(handshake(token=door.token()))
        assert (await send(door.port, *(raw[at : at + 1] for at in range(len(raw))))).status == 101


@pytest.mark.gen_test
@pytest.mark.parametrize("more", [(), (ODD,)], ids=["front", "Tornado"])
async def test_what_comes_while_the_chain_runs_is_kept_for_the_connection(more: Any) -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def wait(ctx: Context) -> None:
        reached.set()
        await go_on.wait()

    async with doorway(links=[wait]) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(head(handshake(*more, token=door.token())) + PING)
        await reached.wait()
        writer.write(PING + CLOSE)
        if not more:
            (arrival,) = door.server.arrivals
            await eventually(lambda: arrival._data.endswith(PING + PING + CLOSE))
        go_on.set()
        answered = await asyncio.wait_for(reader.read(), 10)
        assert answered.count(PONG) == 2
        writer.close()


@pytest.mark.gen_test
async def test_who_sends_too_much_before_the_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_EARLY_BYTES", 10_000)

    async def hang(ctx: Context) -> None:
        await asyncio.Event().wait()

    async with doorway(links=[hang]) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(head(handshake(token=door.token())) + b"x" * 20_000)
        assert (await read_answer(reader)).status == 0
        writer.close()
        await eventually(lambda: door.handshakes("lost") == 1)
        assert (door.inside, door.server.unverified) == (0, 0)


@pytest.mark.gen_test
async def test_a_refusal_of_any_size_is_sent_whole() -> None:
    reason = "x" * 4_000_000

    async with doorway(links=[lambda ctx: ctx.abort_with_status_json(403, reason)]) as door:
        answer = await door.ask()
        assert json.loads(answer.body) == reason


@pytest.mark.gen_test
async def test_who_does_not_read_a_refusal_is_cut_at_the_deadline() -> None:
    reason = "x" * 20_000_000

    async with doorway(
        links=[lambda ctx: ctx.abort_with_status_json(403, reason)], limits={"handshake_timeout_s": 0.5}
    ) as door:
        _, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=1000)
        assert isinstance(writer.transport, asyncio.Transport)
        writer.transport.pause_reading()
        writer.write(head(handshake(token=door.token())))
        await eventually(lambda: door.handshakes("403") == 1)
        assert door.server.unverified == 1
        await eventually(lambda: door.server.unverified == 0)
        writer.transport.abort()


@pytest.mark.gen_test
async def test_those_at_tornado_are_among_the_unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushserver.web.front.MAX_UNVERIFIED", 2)
    go_on = asyncio.Event()

    async def wait(ctx: Context) -> None:
        await go_on.wait()

    async with doorway(links=[wait]) as door:
        asked = [asyncio.ensure_future(door.ask(*more)) for more in ((), (ODD,))]
        await eventually(lambda: door.inside == 2)
        assert door.server.unverified == 2
        assert (await door.ask()).status == 0
        assert door.handshakes("crowded") == 1
        go_on.set()
        assert [answer.status for answer in await asyncio.gather(*asked)] == [101, 101]
        await eventually(lambda: door.server.unverified == 0)


@pytest.mark.gen_test
@pytest.mark.parametrize("more", [(), (ODD,)], ids=["front", "Tornado"])
@pytest.mark.parametrize("token", [None, "bad"], ids=["let in", "turned away"])
async def test_a_link_that_takes_out_what_is_needed_leaves_no_socket_and_no_place_behind(
    token: str | None, more: Any
) -> None:
    def spoil(ctx: Context) -> None:
        ctx.delete("credentials")

    async def spoil_all(ctx: Context) -> None:
        await ctx.next()
        spoil(ctx)

    def first(app: App) -> None:
        app.door.chain = (spoil_all, *app.door.chain)

    async with doorway(prepare=first) as door:
        with capture_logs() as lines:
            changed = {} if token is None else {"token": token}
            answer = await door.ask(*more, ("Sec-WebSocket-Protocol", "pushserver.v1"), **changed)
            assert answer.status == (500 if more else 0)
        assert [line["event"] for line in lines if line["log_level"] == "error"] == ["request.failed"]
        assert (door.inside, door.server.unverified) == (0, 0)


@pytest.mark.gen_test
async def test_closing_the_listener_cuts_whoever_is_not_in() -> None:
    async with doorway() as door:
        inside = await door.connect()
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        await eventually(lambda: door.server.unverified == 1)
        door.server.stop()
        await door.server.close_all_connections()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
        await inside.send({"type": "ping"})
        assert await inside.frame() == {"type": "pong"}
        door.server.stop()


@pytest.mark.gen_test
@pytest.mark.parametrize("more", [(), (ODD,)], ids=["front", "Tornado"])
async def test_who_is_turned_away_by_a_close_code_is_upgraded_whoever_read_the_request(more: Any) -> None:
    async with doorway() as door:
        with pytest.raises(Closed, match="4401"):
            await door.connect(token="bad", protocols=["pushserver.v1"], headers=list(more))
        await eventually(lambda: door.inside == 0)


@measured_again
@pytest.mark.gen_test(timeout=60)
async def test_many_heads_of_many_lines_hold_the_loop_no_longer_than_one() -> None:
    many = b"GET /ws HTTP/1.1\r\nHost: localhost\r\n" + b"a:\r\n" * 7000 + b"\r\n"
    async with doorway() as door:
        clients = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(30)]
        for client in clients:
            client.sendall(many)
        with short_callbacks():
            for client in clients:
                reader, writer = await asyncio.open_connection(sock=client)
                assert (await read_answer(reader)).status == 426
                writer.close()


@pytest.mark.gen_test
async def test_fewer_are_accepted_at_once_where_their_heads_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    long = head(handshake(("X-Long", "x" * 6000)))
    accept, begun = Front._accept, [0]

    def counted(front: Front, *args: Any) -> None:
        begun.append(0)
        accept(front, *args)

    def read(*args: Any, **more: Any) -> object:
        begun[-1] += 1
        return read_head(*args, **more)

    monkeypatch.setattr(Front, "_accept", counted)
    monkeypatch.setattr(module, "read_head", read)
    async with doorway() as door:
        clients = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(30)]
        for client in clients:
            client.sendall(long)
        for client in clients:
            reader, writer = await asyncio.open_connection(sock=client)
            assert (await read_answer(reader)).status == 401
            writer.close()
    assert sum(begun) == 30
    assert max(begun) <= 6
