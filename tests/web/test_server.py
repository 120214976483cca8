"""The public listener: deadlines, one request a connection, and a bound for those who are not verified."""

from __future__ import annotations

import asyncio

import pytest

from pushserver.web import front as module
from tests.pod import eventually
from tests.raw_http import ask, handshake, head, read_answer
from tests.web.doorway import doorway


@pytest.mark.gen_test
async def test_a_head_that_is_sent_too_slowly_ends_the_connection() -> None:
    """However steadily it drips: the deadline runs from the accept."""
    async with doorway(limits={"handshake_timeout_s": 0.5}) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        answer = asyncio.ensure_future(read_answer(reader))
        sent = 0
        drops = head(handshake(("Cookie", "a" * 10_000), token=door.token()))
        while not answer.done():
            writer.write(drops[sent : sent + 1])
            sent += 1
            await asyncio.sleep(0.01)
        assert (await answer).status == 0
        assert 1 < sent < len(drops)
        writer.close()
        await eventually(lambda: not door.server.unverified)


@pytest.mark.gen_test
async def test_a_client_that_says_nothing_is_let_go() -> None:
    async with doorway(limits={"handshake_timeout_s": 0.05}) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


@pytest.mark.gen_test
async def test_a_body_that_is_announced_and_does_not_come_is_not_waited_for_beyond_the_deadline() -> None:
    async with doorway(limits={"handshake_timeout_s": 0.05}) as door:
        answer = await ask(door.port, handshake(("Content-Length", "1"), token=door.token()))
        assert answer.status == 0


@pytest.mark.gen_test
async def test_a_connection_ends_with_its_first_refusal() -> None:
    """Else one could ask and ask on the same connection, with no end and no limit."""
    async with doorway() as door:
        for path, headers in (("/ws", handshake(token="bad")), ("/nowhere", handshake())):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(head(headers, path=path) + head(handshake(token=door.token())))
            answer = await read_answer(reader)
            assert answer.status in {401, 404}
            assert answer.headers["connection"] == "close"
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()
        assert len(door.app.manager) == 0


@pytest.mark.gen_test
async def test_the_server_header_tells_no_version() -> None:
    async with doorway() as door:
        for path, token in (("/ws", "bad"), ("/nowhere", "")):
            answer = await ask(door.port, handshake(token=token), path=path)
            assert answer.headers["server"] == "pushserver"
        answer = await ask(door.port, handshake(), method="TRACE")
        assert answer.headers["server"] == "pushserver"
        assert "server" not in (await door.ask()).headers


@pytest.mark.gen_test
async def test_those_not_verified_yet_have_a_bound_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNVERIFIED", 2)
    async with doorway() as door:
        inside = [await door.connect() for _ in range(3)]
        assert len(inside) == 3, "whoever is inside is not among them"
        idle = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(2)]
        await eventually(lambda: door.server.unverified == 2)
        assert (await ask(door.port, handshake(token=door.token()))).status == 0
        assert door.handshakes("crowded") == 1
        reader, writer = idle[0]
        writer.write(head(handshake(token="bad")))
        assert (await read_answer(reader)).status == 401
        await eventually(lambda: door.server.unverified == 1)
        await door.connect()
        for _, writer in idle:
            writer.close()
        await eventually(lambda: not door.server.unverified)
