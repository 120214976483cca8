"""Compression between a pod as users run it and a client that is none of ours: Tornado's."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

import pytest
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from pushserver.backend import open_publisher
from tests.client import TEXT
from tests.core.client_frames import CONTINUATION
from tests.core.client_frames import client as client_frame
from tests.engines.engine import Engine
from tests.pod import eventually
from tests.pod_process import PodProcess, pod_processes

pytestmark = pytest.mark.system

ON = {"deflate": True, "deflate_threshold_bytes": 500}
CONTENT = {"items": [{"number": number, "text": "a text that is said again"} for number in range(50)]}
OFFER = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
COMPRESSED = "pushserver_contents_deflated_total"


class TornadoClient:
    """A connection that offers compression, as Tornado has it."""

    def __init__(self, connection: WebSocketClientConnection) -> None:
        self.connection = connection

    @classmethod
    async def connect(cls, pod: PodProcess, user: str) -> TornadoClient:
        headers = {"Authorization": f"Bearer {pod.token(user)}"}
        request = HTTPRequest(f"ws://127.0.0.1:{pod.port}/ws", headers=headers)
        return cls(await websocket_connect(request, compression_options={}))

    @property
    def bytes_in(self) -> int:
        """What came over the wire."""
        found: int = self.connection.protocol._wire_bytes_in  # type: ignore[union-attr]
        return found

    async def until(self, kind: str) -> dict[str, Any]:
        """The next frame of that type."""
        while True:
            text = await asyncio.wait_for(self.connection.read_message(), 20)
            assert text is not None, self.connection.close_code
            frame: dict[str, Any] = json.loads(text)
            if frame["type"] == kind:
                return frame

    async def leave(self) -> None:
        self.connection.close()
        while await asyncio.wait_for(self.connection.read_message(), 20) is not None:
            pass


@pytest.mark.gen_test(timeout=60)
async def test_a_message_is_compressed_once_for_all_who_take_that_and_confirmed_by_them(
    any_engine: Engine,
) -> None:
    sections = {"server": ON, "delivery": {"log_confirm_s": 0}}
    async with pod_processes(any_engine.url, **sections) as pods, open_publisher(any_engine.url) as publisher:
        pod = await pods.start("pod-1")
        clients = [await TornadoClient.connect(pod, f"u-{number}") for number in range(3)]
        plain = await pod.connect("plain")
        for client in clients:
            await client.until("live")
        await plain.until("live")
        before = [client.bytes_in for client in clients]
        sent = await publisher.send(CONTENT, everyone=True)
        for client, had in zip(clients, before, strict=True):
            message = await client.until("message")
            assert (message["id"], message["content"]) == (sent.id, CONTENT)
            assert client.bytes_in - had < len(json.dumps(CONTENT)) / 5
            # What Tornado compresses is read, and so is its answer.
            await client.connection.write_message('{"type":"ping"}')
            await client.until("pong")
        assert (await plain.messages(1))[0]["content"] == CONTENT
        assert plain.inflated == []
        assert await pod.metric(COMPRESSED) == 1
        await publisher.send({"short": 1}, everyone=True)
        for client in clients:
            assert (await client.until("message"))["content"] == {"short": 1}
        assert await pod.metric(COMPRESSED) == 1
        # One that is away gets what waits compressed as well.
        waiting = await publisher.send(CONTENT, users=["late"])
        late = await TornadoClient.connect(pod, "late")
        assert (await late.until("message"))["id"] == waiting.id
        await late.until("live")
        await plain.messages(1)

        async def all_confirmed() -> bool:
            return await pod.metric('pushserver_confirms_total{proof="pong"}') == 2 * 4 + 1

        reading = [asyncio.ensure_future(plain.serve())]
        await eventually(all_confirmed)
        for client in (*clients, late):
            await client.leave()
        await plain.close()
        await asyncio.gather(*reading)


@pytest.mark.gen_test(timeout=60)
async def test_bombs_cost_nothing(any_engine: Engine) -> None:
    """Three hundred of them, each 64 MiB in 64 KiB, half of them in fragments."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (stream.compress(b" " * (64 * 1024 * 1024)) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]
    whole = client_frame(TEXT | 0x40, bomb)
    parts = client_frame(TEXT | 0x40, bomb[:100], fin=0) + client_frame(CONTINUATION, bomb[100:])
    limits = {"handshakes_per_s": 0, "connections_per_user": 1000}
    async with pod_processes(any_engine.url, server=ON, limits=limits) as pods:
        pod = await pods.start("pod-1")

        async def bombs(count: int) -> None:
            for number in range(count):
                client = await pod.connect("hostile", headers=OFFER)
                await client.send_bytes(parts if number % 2 else whole)
                assert (await client.closed()).code == 1009
                client.vanish()

        await bombs(20)
        before = pod.figures("VmHWM")
        await asyncio.gather(*(bombs(28) for _ in range(10)))
        assert pod.figures("VmHWM") - before < 16 * 1024
