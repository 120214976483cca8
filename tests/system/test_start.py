"""What stops a start, how it is told, and with which exit code."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import pytest

from tests.engines.engine import Engine
from tests.pod import SECRET
from tests.pod_process import PodProcess, flags
from tests.system.stage import stage

pytestmark = pytest.mark.system

Sections = dict[str, dict[str, Any]]


async def told(pod: PodProcess, exit_code: int) -> list[str]:
    """Wait for a start that fails; the lines that it wrote."""
    try:
        assert await pod.exit_code() == exit_code, pod.stderr
        assert pod.stdout == ""
        return pod.stderr.splitlines()
    finally:
        pod.put_away()


@pytest.mark.gen_test(timeout=30)
@pytest.mark.parametrize(
    "sections, line",
    [
        ({"server": {"prot": 1}}, "pushserver: server.prot: is not a setting (flag)"),
        ({"sever": {"port": 1}}, "pushserver: sever.port: is not a setting (flag)"),
        (
            {"server": {"port": 65536}},
            "pushserver: server.port: should be less than or equal to 65535 (flag)",
        ),
        (
            {"redis": {"url": "redis://127.0.0.1"}},
            "pushserver: auth.secret: must be set, 32 bytes or more, with redis.url",
        ),
        (
            {"redis": {"url": "redis://127.0.0.1"}, "auth": {"secret": "short"}},
            "pushserver: auth.secret: must have at least 32 bytes (flag)",
        ),
        (
            {"server": {"host": "0.0.0.0"}},
            "pushserver: server.host: must be a loopback address unless redis.url is set",
        ),
    ],
)
async def test_a_wrong_setting_stops_the_start_with_its_name(sections: Sections, line: str) -> None:
    assert await told(PodProcess(flags(sections)), 2) == [line]


def on_redis(url: str, **server: Any) -> Mapping[str, Mapping[str, Any]]:
    return {
        "redis": {"url": url},
        "auth": {"secret": SECRET},
        "server": {"port": 0, **server},
        "admin": {"port": 0},
        "logging": {"format": "json"},
    }


@pytest.mark.gen_test(timeout=30)
async def test_a_port_that_is_taken_is_told_in_one_line(any_engine: Engine) -> None:
    """Nothing was registered by then: another pod of that name is not disturbed."""
    async with stage(any_engine) as on:
        other = await on.pods.start("pod-1")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            sections = {**on_redis(any_engine.url, port=port), "pod": {"name": "pod-1"}}
            lines = await told(PodProcess(flags(sections)), 2)
        assert lines == [f"pushserver: server.port: 127.0.0.1:{port} cannot be used: Address already in use"]
        assert on.boot("pod-1") == (await other.stats())["boot"]


@pytest.mark.gen_test(timeout=30)
async def test_an_engine_that_would_lose_messages_is_refused(any_engine: Engine) -> None:
    with any_engine.client() as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            lines = await told(PodProcess(flags(on_redis(any_engine.url))), 2)
        finally:
            redis.config_set("maxmemory-policy", "noeviction")
    assert lines == ["pushserver: redis.url: maxmemory-policy is allkeys-lru; only noeviction keeps messages"]
