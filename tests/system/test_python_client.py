"""The Python client at real pods."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pushserver.client import Client
from pushserver.core.errors import ClosedError
from tests.admin_api import call, send, waiting
from tests.engines.engine import Engine
from tests.engines.ports import free_port
from tests.pod import eventually
from tests.pod_process import PodProcess, pod_processes

pytestmark = pytest.mark.system


@pytest.mark.gen_test(timeout=60)
async def test_a_killed_pod_costs_no_message_and_hands_none_on_twice(any_engine: Engine) -> None:
    """In the end the back end disconnects the user, which is raised."""
    port, got, kinds = free_port(), [], []

    async def read(pod: PodProcess) -> None:
        def watch(kind: str, fields: Any) -> None:
            kinds.append(kind)

        async with Client(f"ws://127.0.0.1:{port}/ws", lambda: pod.token("alice"), watch=watch) as client:
            async for message in client:
                got.append(message.content)

    async with pod_processes(any_engine.url, server={"port": port}) as pods:
        pod = await pods.start("pod-1")
        reading = asyncio.ensure_future(read(pod))
        await eventually(lambda: "live" in kinds)
        for number in range(50):
            await send(pod.admin_port, "alice", number)
        pod.kill()
        pod = await pods.start("pod-1")
        await send(pod.admin_port, "alice", "after")
        await eventually(lambda: len(got) >= 51)
        assert got == [*range(50), "after"]

        async def settled() -> bool:
            return await waiting(pod.admin_port, "alice") == 0

        await eventually(settled)
        assert kinds.count("live") == 2
        await call(pod.admin_port, "POST", "/v1/users/alice/disconnect")
        with pytest.raises(ClosedError, match="4403"):
            await reading
