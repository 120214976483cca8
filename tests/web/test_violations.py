"""What hostile clients send: each is closed with its code, and a bystander does not notice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.callbacks import short_callbacks
from tests.client import Client
from tests.core.client_frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, fragments, header
from tests.core.client_frames import client as client_frame
from tests.cpu_time import measured_again
from tests.pod import eventually
from tests.raw_http import handshake, head
from tests.web.doorway import Doorway, doorway

MAX_FRAME = 65_536

VIOLATIONS = {
    "an unmasked frame": (b"\x81\x05hello", 1002),
    "an unmasked empty ping": (b"\x89\x00", 1002),
    "a reserved bit": (b"\xc1" + client_frame(TEXT, b"x")[1:], 1002),
    "a reserved opcode": (client_frame(3, b"x"), 1002),
    "a reserved control opcode": (client_frame(0xB, b""), 1002),
    "a fragmented ping": (client_frame(PING, b"", fin=0), 1002),
    "a ping of 126 bytes": (client_frame(PING, b"x" * 126), 1002),
    "nothing to continue": (client_frame(CONTINUATION, b"x"), 1002),
    "a text within a text": (client_frame(TEXT, b"a", fin=0) + client_frame(TEXT, b"b"), 1002),
    "a length of 2^63": (b"\x81\xff" + (1 << 63).to_bytes(8) + b"key!", 1002),
    "a length in two bytes that fits one": (b"\x81\xfe\x00\x01key!", 1002),
    "a close of one byte": (client_frame(CLOSE, b"\x03"), 1002),
    "a close with 1005": (client_frame(CLOSE, (1005).to_bytes(2)), 1002),
    "a close with 999": (client_frame(CLOSE, (999).to_bytes(2)), 1002),
    "a close with 5000": (client_frame(CLOSE, (5000).to_bytes(2)), 1002),
    "text that is no UTF-8": (client_frame(TEXT, b"\xed\xa0\x80"), 1007),
    "text cut in a character": (fragments(b"\xe2\x82", b""), 1007),
    "a close whose reason is no UTF-8": (client_frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "a message one byte too big": (header(0x81, MAX_FRAME + 1), 1009),
    "a message of 2^62 bytes": (b"\x81\xff" + (1 << 62).to_bytes(8), 1009),
    "fragments one byte too big": (
        client_frame(TEXT, b"x" * 32_768, fin=0) + client_frame(CONTINUATION, b"x" * 32_769),
        1009,
    ),
    "a binary message": (client_frame(BINARY, b"x"), 1003),
    "another WebSocket handshake": (head(handshake()), 1002),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64, 1002),
}


@asynccontextmanager
async def with_bystander(door: Doorway) -> AsyncIterator[None]:
    """Somebody else is asked and answers, before and after, and nothing went wrong with us meanwhile."""
    bystander = await door.connect("bystander")
    with capture_logs() as lines:
        yield
        await bystander.send({"type": "ping"})
        assert await bystander.frame() == {"type": "pong"}
    assert not [line for line in lines if line["log_level"] in {"error", "critical"} or "exc_info" in line]
    assert (await bystander_alone(door)) is True


async def bystander_alone(door: Doorway) -> bool:
    await eventually(lambda: door.inside == 1)
    return len(door.app.manager) == 1


@pytest.mark.gen_test
async def test_every_violation_of_rfc_6455_is_closed_with_its_code() -> None:
    async with doorway() as door, with_bystander(door):
        for name, (sent, code) in VIOLATIONS.items():
            client = await door.connect("hostile")
            await client.send_bytes(sent)
            assert (await client.closed()).code == code, name
            client.vanish()


@pytest.mark.gen_test
async def test_who_violates_the_protocol_is_here_no_more_before_the_socket_is_closed() -> None:
    """It may keep it open for a while, and is pushed nothing that could still be confirmed."""
    async with doorway() as door:
        client = await door.connect("hostile")
        await client.send_bytes(b"\xff\xff")
        assert (await client._read_frame())[0] == CLOSE
        assert not door.app.manager.of("hostile")
        assert door.inside == 1


@pytest.mark.gen_test
async def test_a_message_of_just_the_size_allowed_is_read() -> None:
    async with doorway() as door:
        client = await door.connect()
        await client.send_bytes(client_frame(TEXT, b'{"type":"ping"}' + b" " * (MAX_FRAME - 15)))
        assert await client.frame() == {"type": "pong"}


@pytest.mark.gen_test
async def test_a_clients_ping_is_answered_with_what_it_held() -> None:
    async with doorway() as door:
        client = await door.connect()
        for payload in (b"", b"x", b"y" * 125):
            await client.send_frame(PING, payload)
            assert await client._read_frame() == (PONG, payload)


@pytest.mark.gen_test
async def test_a_clients_goodbye_is_answered_with_its_code() -> None:
    async with doorway() as door:
        for code, answered in ((1000, 1000), (1001, 1001), (3999, 1000), (4999, 1000)):
            client = await door.connect()
            await client.send_frame(CLOSE, code.to_bytes(2) + b"bye")
            assert await client._read_frame() == (CLOSE, answered.to_bytes(2))
            assert await client.reader.read() == b"", "the server ends first"
        await eventually(lambda: door.inside == 0)


@pytest.mark.gen_test
async def test_data_behind_a_goodbye_is_ignored() -> None:
    async with doorway() as door:
        client = await door.connect()
        await client.send_bytes(client_frame(CLOSE, b"\x03\xe8") + b"\xff" * 10_000)
        assert await client._read_frame() == (CLOSE, b"\x03\xe8")


FLOODS = {
    "empty pings": client_frame(PING),
    "pongs that nobody asked for": client_frame(PONG),
    "pongs that look like receipts": client_frame(PONG, b"1"),
    "empty fragments": client_frame(CONTINUATION, b"", fin=0),
    "requests": client_frame(TEXT, b'{"type":"ping"}'),
    "acks of nothing": client_frame(TEXT, b'{"type":"ack","ids":[]}'),
}


@measured_again
@pytest.mark.gen_test
async def test_a_flood_of_small_frames_is_4429_and_holds_nobody_up() -> None:
    async with doorway() as door, with_bystander(door):
        with short_callbacks():
            for name, frame in FLOODS.items():
                client = await door.connect("hostile", protocols=["pushserver.v1.ack"])
                if "fragments" in name:
                    await client.send_bytes(client_frame(TEXT, b"", fin=0))
                await client.send_bytes(frame * (200_000 // len(frame)))
                assert (await client.closed()).code == 4429, name
                client.vanish()


@pytest.mark.gen_test
async def test_a_flood_that_goes_on_after_4429_is_cut() -> None:
    async with doorway() as door, with_bystander(door):
        client = await door.connect("hostile")
        flood = client_frame(PONG) * 10_000
        sent = 0
        while not client.writer.transport.is_closing():
            await client.send_bytes(flood)
            sent += len(flood)
            assert sent < 100_000_000
        client.vanish()


@pytest.mark.gen_test
async def test_frames_at_the_limit_of_a_second_are_no_flood() -> None:
    async with doorway(limits={"frames_per_s": 50}) as door:
        client = await door.connect()
        await client.send_bytes(client_frame(TEXT, b'{"type":"ping"}') * 50)
        for _ in range(50):
            assert await client.frame() == {"type": "pong"}
        connection = door.app.manager.of("alice")[0]
        assert connection.is_open()


@pytest.mark.gen_test
async def test_ten_frames_that_are_no_request_are_4400() -> None:
    async with doorway() as door:
        client = await door.connect()
        for _ in range(9):
            await client.send_frame(TEXT, b"[]")
            assert (await client.frame())["code"] == "bad_frame"
        await client.send_frame(TEXT, b"[]")
        assert (await client.closed()).code == 4400


async def deaf(door: Doorway) -> Client:
    """A client whose system takes next to nothing, and which does not read."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", door.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    writer.write(head(handshake(token=door.token("deaf"))))
    client = Client(reader, writer, {})
    door.clients.append(client)
    await eventually(lambda: door.app.manager.of("deaf"))
    return client


@pytest.mark.gen_test
async def test_a_client_that_pings_and_does_not_read_is_owed_a_bounded_number_of_pongs() -> None:
    sections: dict[str, Any] = {"limits": {"frames_per_s": 10**9}, "server": {"send_buffer_bytes": 4096}}
    async with doorway(**sections) as door, with_bystander(door):
        client = await deaf(door)
        transport = door.app.manager.of("deaf")[0].transport
        pings = client_frame(PING, b"x" * 125) * 100
        most = 0
        while transport.buffered <= 64 * 1024:
            await client.send_bytes(pings)
            await asyncio.sleep(0)
            assert most <= transport.buffered
            most = transport.buffered
        await client.send_bytes(pings * 10 + client_frame(TEXT, b'{"type":"ping"}'))
        await eventually(lambda: transport.buffered > most or transport.written > most)
        assert transport.buffered <= 64 * 1024 + 127 + len(b'..{"type":"pong"}')
        assert door.app.manager.of("deaf")[0].is_open(), "a slow client is no flood"
        client.vanish()


@pytest.mark.gen_test
async def test_a_client_that_takes_nothing_is_cut_at_the_bound_of_its_backlog() -> None:
    sections: dict[str, Any] = {
        "server": {"send_buffer_bytes": 4096},
        "delivery": {"window_bytes": 65_536},
        "content": {"max_bytes": 65_536},
    }
    async with doorway(**sections) as door, with_bystander(door):
        await deaf(door)
        (connection,) = door.app.manager.of("deaf")
        bound = door.app.door.socket_options.max_backlog
        assert bound == 65_536 + 65_536 + 512 * 1024
        connection.transport.write(b"x" * bound)
        assert 0 < connection.transport.buffered <= bound
        connection.transport.write(b"x" * bound)
        await eventually(lambda: not door.app.manager.of("deaf"))
        value = door.app.metrics.registry.get_sample_value("pushserver_closes_total", {"code": "4408"})
        assert value == 1


@pytest.mark.gen_test
async def test_a_client_that_never_answers_a_goodbye_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushserver.web.transport.GOODBYE_S", 0.05)
    async with doorway() as door, with_bystander(door):
        client = await door.connect("silent")
        door.app.manager.of("silent")[0].transport.close(1012, "")
        assert await client._read_frame() == (CLOSE, (1012).to_bytes(2))
        assert await asyncio.wait_for(client.reader.read(), 5) == b""
