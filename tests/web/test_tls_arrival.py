"""The listener for clients with TLS: everything as without it, and nobody holds up the others."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pushserver.core.close_codes import CloseCode
from pushserver.web.poller import Poller
from pushserver.web.tls import STEP_BYTES, TlsSocket
from tests.client import Closed
from tests.engines.certificates import Authority, Key
from tests.pod import eventually
from tests.raw_http import handshake, head, read_answer
from tests.web.doorway import Doorway, doorway

ODD = ("X-Odd", "\xe9")
"""Makes a head none that the front reads itself: Tornado does."""
READERS = pytest.mark.parametrize("more", [(), (ODD,)], ids=["front", "Tornado"])


class Tls:
    """A certificate for 127.0.0.1, and who trusts it."""

    def __init__(self, folder: Path, key: Key | None = None) -> None:
        authority = Authority(folder, "authority")
        certificate, private = authority.sign("127.0.0.1", key)
        self.settings = {"certfile": str(certificate), "keyfile": str(private)}
        self.client = ssl.create_default_context(cafile=authority.certificate)


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return Tls(tmp_path)


@asynccontextmanager
async def secure_doorway(tls: Tls, **options: Any) -> AsyncIterator[Doorway]:
    async with doorway(server=tls.settings, **options) as door:
        yield door


@READERS
@pytest.mark.gen_test
async def test_a_client_comes_in_and_is_served(tls: Tls, more: Any) -> None:
    """Frames larger than a record go both ways; the end is said in TLS, too."""
    async with secure_doorway(tls, limits={"frames_per_s": 1000}) as door:
        client = await door.connect(tls=tls.client, headers=list(more))
        await client.send({"type": "ping", "more": "x" * 60_000})
        assert (await client.frame())["type"] == "pong"
        await client.send({"type": "ping"})
        assert await client.frame() == {"type": "pong"}
        door.app.drain.cut()
        assert (await client.closed()).code == CloseCode.SERVICE_RESTART
        assert await client.reader.read() == b""


@READERS
@pytest.mark.gen_test
async def test_a_refusal_of_any_size_is_sent_whole(tls: Tls, more: Any) -> None:
    reason = "x" * 4_000_000

    async with secure_doorway(tls, links=[lambda ctx: ctx.abort_with_status_json(403, reason)]) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=tls.client)
        writer.write(head(handshake(*more, token=door.token())))
        answer = await read_answer(reader)
        assert (answer.status, json.loads(answer.body)) == (403, reason)
        writer.close()


@pytest.mark.gen_test
async def test_a_browser_that_is_turned_away_reads_the_close_code(tls: Tls) -> None:
    async with secure_doorway(tls) as door:
        with pytest.raises(Closed, match="4401"):
            await door.connect(token="bad", protocols=["pushserver.v1"], tls=tls.client)
        await eventually(lambda: door.inside == 0)


@READERS
@pytest.mark.gen_test
async def test_a_head_may_fill_several_records_and_have_frames_behind_it(tls: Tls, more: Any) -> None:
    async with secure_doorway(tls) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=tls.client)
        raw = head(handshake(*more, ("X-Filler", "x" * 20_000), token=door.token()))
        raw += b"\x89\x85\x00\x00\x00\x00early"
        for start in range(0, len(raw), 5000):
            writer.write(raw[start : start + 5000])
            await asyncio.sleep(0)
        assert (await read_answer(reader)).status == 101
        assert b"\x8a\x05early" in await reader.readuntil(b"early")
        writer.transport.abort()
        await eventually(lambda: door.inside == 0)


@pytest.mark.gen_test
async def test_who_speaks_no_tls_is_cut_and_counted(tls: Tls) -> None:
    async with secure_doorway(tls) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(head(handshake(token=door.token())))
        # What was sent is not read, so it is no orderly end.
        with suppress(ConnectionError):
            assert b"HTTP" not in await asyncio.wait_for(reader.read(), 5)
        writer.close()
        await eventually(lambda: door.handshakes("tls") == 1)
        assert door.server.unverified == 0


@pytest.mark.gen_test
async def test_tls_is_of_version_1_2_at_least(tls: Tls) -> None:
    async with secure_doorway(tls) as door:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            tls.client.minimum_version = tls.client.maximum_version = version
            await door.connect(tls=tls.client)
        old = ssl.create_default_context()
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("DEFAULT@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            await asyncio.open_connection("127.0.0.1", door.port, ssl=old)


@pytest.mark.gen_test
async def test_who_stalls_in_the_handshake_of_tls_is_cut_and_holds_up_nobody(tls: Tls) -> None:
    async with secure_doorway(tls, limits={"handshake_timeout_s": 1}) as door:
        hello = _client_hello(tls.client)
        stalled = []
        for sent in (b"", hello[:100], hello):
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.write(sent)
            stalled.append((reader, writer))
        await eventually(lambda: door.server.unverified == 3)
        await door.connect(tls=tls.client)
        for reader, writer in stalled:
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
        await eventually(lambda: door.server.unverified == 0)


@pytest.mark.gen_test
async def test_one_deadline_is_for_both_handshakes(tls: Tls) -> None:
    """TLS that took most of it leaves the rest for the head."""
    limit_s = 2.0
    async with secure_doorway(tls, limits={"handshake_timeout_s": limit_s}) as door:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        await asyncio.sleep(limit_s * 0.7)
        await writer.start_tls(tls.client, server_hostname="127.0.0.1")
        writer.write(head(handshake(token=door.token()))[:-2])
        assert await asyncio.wait_for(reader.read(), 10) == b""
        assert time.monotonic() - began < limit_s * 1.6
        writer.close()


@pytest.mark.gen_test
async def test_many_handshakes_at_once_hold_the_loop_for_no_longer_than_one(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is signed in a turn of its own, which takes milliseconds with a large key."""
    hello = _client_hello(tls.client)
    signed_in: list[int] = []
    look, step = Poller._look, TlsSocket.do_handshake

    def looking(poller: Poller) -> None:
        signed_in.append(0)
        look(poller)

    def stepping(sock: TlsSocket) -> None:
        try:
            step(sock)
        finally:
            signed_in[-1] += sock.cost == STEP_BYTES

    monkeypatch.setattr(Poller, "_look", looking)
    monkeypatch.setattr(TlsSocket, "do_handshake", stepping)
    async with secure_doorway(tls) as door:
        # All of it is there when the loop turns again.
        many = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(64)]
        for one in many:
            one.sendall(hello)
        await eventually(lambda: all(select.select(many, [], [], 0)[0].count(one) for one in many))
        assert (max(signed_in), sum(signed_in)) == (1, len(many))
        for one in many:
            one.close()
        await eventually(lambda: door.server.unverified == 0)


@pytest.mark.gen_test
async def test_who_is_gone_before_tls_began_leaves_nothing(tls: Tls) -> None:
    async with secure_doorway(tls) as door:
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", door.port)
            writer.transport.abort()
        await door.connect(tls=tls.client)
        await eventually(lambda: door.server.unverified == 0)


@pytest.mark.gen_test
async def test_closing_the_listener_cuts_who_is_in_the_handshake_of_tls(tls: Tls) -> None:
    async with secure_doorway(tls) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        await eventually(lambda: door.server.unverified == 1)
        door.server.stop()
        await door.server.close_all_connections()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


def _client_hello(context: ssl.SSLContext) -> bytes:
    """The first bytes of a client."""
    coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(coming, going, server_hostname="127.0.0.1").do_handshake()
    return going.read()
