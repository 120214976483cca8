"""Broadcasts while pods are killed and drained: everybody gets every one, in order, once a connection."""

from __future__ import annotations

import asyncio

import pytest

from pushserver.backend import open_publisher
from tests.engines.engine import Engine
from tests.pod import eventually
from tests.pod_process import PodProcess, pod_processes
from tests.system.history import History
from tests.system.listener import Faithful

pytestmark = pytest.mark.system

COUNT = 300


@pytest.mark.gen_test(timeout=90)
async def test_broadcasts_go_on_while_a_pod_is_killed_and_another_drained(engine: Engine) -> None:
    history = History()
    pods: list[PodProcess] = []
    users: list[Faithful] = []
    async with pod_processes(engine.url) as processes, open_publisher(engine.url) as publisher:
        try:
            pods += [await processes.start("pod-1"), await processes.start("pod-2")]
            users += [Faithful(f"u-{number}", history, lambda: list(pods)) for number in range(3)]
            users += [Faithful(f"u-{number}", history, lambda: pods[::-1]) for number in range(3, 6)]
            await eventually(lambda: all(one.now and one.now.live for one in users), 10)
            ids = [f"m-{number:04d}" for number in range(COUNT)]
            for number, message_id in enumerate(ids):
                await publisher.send({"n": number}, everyone=True, message_id=message_id)
                if number == COUNT // 3:
                    pods[0].kill()
                    pods[0] = await processes.start("pod-1")
                if number == 2 * COUNT // 3:
                    pods[1].terminate()
                    await pods[1].exit_code()
                    pods[1] = await processes.start("pod-2")
                await asyncio.sleep(0.003)
            await eventually(lambda: all(one.received == set(ids) for one in users), 20)
            assert sum(one.connects for one in users) > len(users)
            for one in users:
                await one.leave()
            # All of it was confirmed, so whoever comes back gets nothing again.
            await eventually(lambda: _nobody_is_here(pods), 10)
            for line in history.lines:
                assert line.ids == sorted(set(line.ids)), line.user
        finally:
            for one in users:
                await one.put_away()


async def _nobody_is_here(pods: list[PodProcess]) -> bool:
    figures = [await pod.stats() for pod in pods]
    return not any(one["connections"] or one["cursors_waiting"] or one["settle_waiting"] for one in figures)
