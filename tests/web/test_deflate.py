"""Compression as clients meet it: negotiated alike whoever reads the handshake, or not there at all."""

from __future__ import annotations

import zlib
from typing import Any

import pytest

from pushserver.core.deflate_offer import agree
from tests.client import Client
from tests.core.client_frames import BINARY, CONTINUATION, PING, TEXT
from tests.core.client_frames import client as client_frame
from tests.core.test_deflate_offer import ACCEPTED, DECLINED
from tests.raw_http import handshake, head
from tests.web.doorway import Doorway, doorway
from tests.web.test_front import ODD, send

RSV1 = 0x40
EXTENSIONS = "sec-websocket-extensions"
ON: dict[str, Any] = {"server": {"deflate": True}}
OFFER = ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")


def compressed(payload: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


PING_REQUEST = compressed(b'{"type":"ping"}')


async def connect(door: Doorway, user: str = "alice") -> Client:
    client = await door.connect(user, headers=[OFFER])
    assert "permessage-deflate" in client.headers[EXTENSIONS]
    return client


def both_ways(*lines: str, token: str) -> tuple[bytes, bytes]:
    """The same handshake as the front reads it itself, and as it leaves it to Tornado."""
    offers = [("Sec-WebSocket-Extensions", line) for line in lines]
    return head(handshake(*offers, token=token)), head(handshake(*offers, ODD, token=token))


@pytest.mark.gen_test
async def test_every_offer_is_answered_alike_by_the_front_and_behind_it() -> None:
    limits = {"connections_per_user": 10**6, "handshakes_per_s": 0, "connections_per_ip": 0}
    async with doorway(**ON, limits=limits) as door:
        token = door.token()
        for lines in (*([offer] for offer in (*ACCEPTED, *DECLINED)), ["other", "permessage-deflate"], []):
            if not all(line.isascii() and line.isprintable() for line in lines):
                continue
            agreement = agree(lines)
            for request in both_ways(*lines, token=token):
                answer = await send(door.port, request)
                assert answer.status == 101, lines
                assert answer.headers.get(EXTENSIONS) == (agreement and agreement.answer), lines


@pytest.mark.gen_test
async def test_no_bytes_in_an_offer_make_an_error_of_ours() -> None:
    async with doorway(**ON) as door:
        for line in DECLINED:
            for request in both_ways(line.encode().decode("latin-1"), token=door.token()):
                answer = await send(door.port, request)
                assert answer.status in {101, 400}, line
                assert EXTENSIONS not in answer.headers


@pytest.mark.gen_test
async def test_by_default_nothing_is_negotiated_and_rsv1_is_a_1002() -> None:
    async with doorway() as door:
        client = await door.connect(headers=[OFFER])
        assert EXTENSIONS not in client.headers
        await client.send_bytes(client_frame(TEXT | RSV1, PING_REQUEST))
        assert (await client.closed()).code == 1002


@pytest.mark.gen_test
async def test_who_does_not_offer_it_does_not_get_it() -> None:
    async with doorway(**ON) as door:
        client = await door.connect()
        assert EXTENSIONS not in client.headers
        await client.send_bytes(client_frame(TEXT | RSV1, PING_REQUEST))
        assert (await client.closed()).code == 1002


@pytest.mark.gen_test
async def test_who_sends_before_the_answer_cannot_know_and_does_not_get_it() -> None:
    async with doorway(**ON) as door:
        for request in both_ways(OFFER[1], token=door.token()):
            answer = await send(door.port, request + client_frame(TEXT | RSV1, PING_REQUEST))
            assert answer.status == 101
            assert EXTENSIONS not in answer.headers


@pytest.mark.gen_test
async def test_who_is_turned_away_is_agreed_with_on_nothing() -> None:
    async with doorway(**ON) as door:
        protocols = (("Sec-WebSocket-Protocol", "pushserver.v1"),)
        answer = await send(door.port, head(handshake(OFFER, *protocols)))
        assert answer.status == 101
        assert EXTENSIONS not in answer.headers


@pytest.mark.gen_test
async def test_compressed_requests_are_answered_whole_and_in_fragments() -> None:
    async with doorway(**ON) as door:
        client = await connect(door)
        await client.send_bytes(client_frame(TEXT | RSV1, PING_REQUEST))
        assert await client.frame() == {"type": "pong"}
        first = client_frame(TEXT | RSV1, PING_REQUEST[:4], fin=0)
        await client.send_bytes(first + client_frame(PING, b"1"))
        await client.send_bytes(
            client_frame(CONTINUATION, PING_REQUEST[4:]) + client_frame(TEXT, b'{"type":"ping"}')
        )
        assert [await client.frame() for _ in range(2)] == [{"type": "pong"}] * 2
        assert client.inflated == [], "what is not shared is not compressed"


ENDS = {
    "RSV1 on a ping": (client_frame(PING | RSV1), 1002),
    "RSV1 on a continuation": (
        client_frame(TEXT | RSV1, b"", fin=0) + client_frame(CONTINUATION | RSV1, PING_REQUEST),
        1002,
    ),
    "no deflate": (client_frame(TEXT | RSV1, b"\xff\xff\xff"), 1007),
    "no UTF-8": (client_frame(TEXT | RSV1, compressed(b"\xff")), 1007),
    "binary": (client_frame(BINARY | RSV1, compressed(b"x")), 1003),
    "a bomb": (client_frame(TEXT | RSV1, compressed(b" " * 50_000_000)), 1009),
    "a bomb in fragments": (
        client_frame(TEXT | RSV1, compressed(b" " * 50_000_000), fin=0) + client_frame(CONTINUATION),
        1009,
    ),
    "requests that are too many": (client_frame(TEXT | RSV1, PING_REQUEST) * 500, 4429),
    "large requests that are too many": (
        client_frame(TEXT | RSV1, compressed(b'{"type":"ping"}' + b" " * 65_000)) * 100,
        4429,
    ),
}


@pytest.mark.gen_test
async def test_what_is_against_the_rules_ends_with_its_code() -> None:
    async with doorway(**ON) as door:
        for name, (data, code) in ENDS.items():
            client = await connect(door, "hostile")
            await client.send_bytes(data)
            assert (await client.closed()).code == code, name
            client.vanish()
