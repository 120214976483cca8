"""A batch over HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

import pytest

from pushserver.web.admin import batch_call
from pushserver.web.admin.batch import MAX_LINES, WINDOW_LINES
from tests.callbacks import short_callbacks
from tests.cpu_time import measured_again
from tests.pod import eventually
from tests.raw_http import Answer, head, read_answer
from tests.web.admin.batch_lines import line
from tests.web.admin.desk import KEY, Desk, bearer, desk

PATH = "/v1/messages/batch"
NDJSON = "application/x-ndjson"


class Talk:
    """A batch that is sent piece by piece, and read piece by piece."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def result(self) -> Any:
        """The next line of result, whatever the chunks."""
        while True:
            text = await asyncio.wait_for(self.reader.readline(), 10)
            if text.startswith(b"{"):
                return json.loads(text)
            assert text, "the answer ended"


async def begin(at: Desk) -> Talk:
    reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
    about = [("Host", "localhost"), ("Content-Type", NDJSON), ("Transfer-Encoding", "chunked")]
    writer.write(head(about, method="POST", path=PATH))
    return Talk(reader, writer)


async def send(at: Desk, body: bytes) -> Answer:
    return await at.send("POST", PATH, body, kind=NDJSON)


def results(answer: Answer) -> list[Any]:
    assert answer.headers["content-type"] == NDJSON
    body, text = answer.body, b""
    while body:
        size, _, body = body.partition(b"\r\n")
        text, body = text + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return [json.loads(one) for one in text.decode().splitlines()]


async def whole(at: Desk, body: bytes) -> list[Any]:
    """The results of a batch that is sent as a whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
    about = [("Host", "localhost"), ("Content-Type", NDJSON), ("Connection", "close")]
    writer.write(head([*about, ("Content-Length", str(len(body)))], method="POST", path=PATH) + body)
    answer = await read_answer(reader)
    writer.close()
    assert answer.status == 200
    return results(answer)


@pytest.mark.gen_test
async def test_lines_are_answered_while_the_batch_goes_on() -> None:
    async with desk() as at:
        talk = await begin(at)
        for number in range(1, 4):
            talk.send(line(f"m-{number}"))
            assert await talk.result() == {
                "line": number,
                "status": 202,
                "id": f"m-{number}",
                "users": 1,
                "online": 0,
            }
        talk.send(line("half")[:20])
        talk.send(line("half")[20:-1])
        talk.writer.write(b"0\r\n\r\n")
        assert (await talk.result())["id"] == "half"
        assert (await asyncio.wait_for(talk.reader.readuntil(b"0\r\n\r\n"), 10)).endswith(b"0\r\n\r\n")
        # Nothing is left over: the connection is good for another call.
        talk.writer.write(head([("Host", "localhost")], path="/v1/stats"))
        assert (await read_answer(talk.reader)).status == 200
        talk.writer.close()


@measured_again
@pytest.mark.gen_test(timeout=60)
async def test_as_many_lines_as_there_may_be_hold_no_callback_and_need_no_reader_meanwhile() -> None:
    async with desk() as at:
        body = b"".join(line(f"m-{number}", "x" * 50) for number in range(MAX_LINES))
        with short_callbacks():
            told = await whole(at, body)
        assert [(one["line"], one["id"]) for one in told] == [(n + 1, f"m-{n}") for n in range(MAX_LINES)]
        assert [one.id for one in at.publisher.asked] == [f"m-{n}" for n in range(MAX_LINES)]


@pytest.mark.gen_test(timeout=60)
async def test_one_line_more_is_refused_and_ends_it() -> None:
    async with desk() as at:
        # Short lines, wrong but read: only their number counts.
        told = await whole(at, b"{}\n" * (MAX_LINES + 5))
        assert len(told) == MAX_LINES + 1
        assert told[-1]["line"] == MAX_LINES + 1
        assert (told[-1]["status"], told[-1]["error"]["code"]) == (413, "too_many_lines")
        assert {one["status"] for one in told[:-1]} == {400}


@pytest.mark.gen_test
async def test_what_is_sent_beyond_the_last_line_ends_the_connection_and_leaves_nothing() -> None:
    async with desk() as at:
        talk = await begin(at)
        talk.send(b"{}\n" * (MAX_LINES + 1))
        rest = await asyncio.wait_for(talk.reader.read(), 20)
        assert b"too_many_lines" in rest
        talk.writer.close()


@pytest.mark.gen_test
async def test_an_empty_batch_has_no_results() -> None:
    async with desk() as at:
        assert await whole(at, b"") == await whole(at, b"\n\n \n") == []


@pytest.mark.gen_test
async def test_no_more_is_read_than_what_is_being_answered() -> None:
    async with desk() as at:
        at.publisher.open.clear()
        talk = await begin(at)
        sender = asyncio.ensure_future(flood(talk))
        await eventually(lambda: len(at.publisher.asked) == WINDOW_LINES)
        # The kernel's buffers are full, and the client waits.
        await eventually(lambda: talk.writer.transport.get_write_buffer_size() > 0)
        (connection,) = at.server._connections
        assert connection.stream._read_buffer_size < 256 * 1024
        assert len(at.publisher.asked) == WINDOW_LINES
        sender.cancel()
        await asyncio.wait([sender])
        talk.writer.transport.abort()


async def flood(talk: Talk) -> None:
    number = 0
    while True:
        talk.send(b"".join(line(f"m-{number}-{one}", "x" * 500) for one in range(100)))
        await talk.writer.drain()
        number += 1


@pytest.mark.gen_test
async def test_a_client_that_goes_away_stops_it() -> None:
    async with desk() as at:
        at.publisher.open.clear()
        talk = await begin(at)
        talk.send(b"".join(line(f"m-{number}") for number in range(WINDOW_LINES * 5)))
        await eventually(lambda: len(at.publisher.asked) == WINDOW_LINES)
        sock: socket.socket = talk.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        talk.writer.transport.abort()
        await asyncio.sleep(0)
        at.publisher.open.set()
        await eventually(lambda: not at.server._connections)
        assert len(at.publisher.asked) == WINDOW_LINES


@pytest.mark.gen_test
async def test_a_batch_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_call, "BATCH_S", 0.5)
    async with desk() as at:
        talk = await begin(at)
        talk.send(line("m-1"))
        assert (await talk.result())["id"] == "m-1"
        await asyncio.wait_for(talk.reader.read(), 10)
        await eventually(lambda: not at.server._connections)
        talk.writer.close()


@pytest.mark.gen_test
async def test_a_batch_needs_a_key() -> None:
    async with desk(KEY) as at:
        assert (await send(at, line("m-1"))).status == 401
        assert not at.publisher.asked
        answer = await at.send("POST", PATH, line("m-1"), bearer(), ("Connection", "close"), kind=NDJSON)
        assert results(answer)[0]["status"] == 202
