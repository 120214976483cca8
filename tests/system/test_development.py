"""Development mode: an empty folder, one command, and a real engine that goes when the pod goes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.pod import eventually
from tests.pod_process import PodProcess, flags

pytestmark = pytest.mark.system

# The ports by default may be taken on the machine that tests; all the rest is by default.
PORTS = flags({"server": {"port": 0}, "admin": {"port": 0}, "logging": {"format": "json"}})


def engines(folder: Path) -> list[int]:
    """Processes of engines whose data is below `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if b"valkey" in command[0] and any(os.fsencode(folder) in part for part in command):
            found.append(int(process.name))
    return found


async def program(folder: Path, *arguments: str) -> list[str]:
    """Run a command of the program in `folder`; the lines it prints. Fails unless it exits 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pushserver",
        *arguments,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return output.decode().splitlines()


async def connect(folder: Path, pod: PodProcess, count: int) -> list[int]:
    """What `connect alice --count N` shows: the numbers of its messages."""
    url = f"ws://127.0.0.1:{pod.port}/ws"
    shown = await program(folder, "connect", "alice", "--count", str(count), "--url", url)
    contents = [json.loads(line.split(" ")[-1]) for line in shown if line.startswith("message ")]
    return [content["number"] for content in contents]


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[PodProcess]:
    """`pushserver serve` in `folder`; afterwards neither it nor its engine may run."""
    pod = PodProcess(PORTS, folder=folder)
    try:
        await pod.started()
        assert len(engines(folder)) == 1
        await eventually(lambda: "development mode" in pod.stdout)
        yield pod
        await pod.finish()
        await eventually(lambda: engines(folder) == [])
    finally:
        pod.put_away()


@pytest.mark.gen_test(timeout=90)
async def test_serve_seed_and_connect_work_in_an_empty_folder_and_leave_no_engine(tmp_path: Path) -> None:
    """Ended by kill -9 the first time, in order the second; what was not read before is there then."""
    async with served(tmp_path) as pod:
        await program(tmp_path, "seed", "alice", "--count", "500", "--text", "hello")
        assert await connect(tmp_path, pod, 200) == list(range(1, 201))
        pod.kill()
    async with served(tmp_path) as pod:
        waiting = (await pod.get("/v1/users/alice"))[1]["inbox"]["waiting"]
        assert 300 <= waiting < 500
        assert await connect(tmp_path, pod, waiting) == list(range(501 - waiting, 501))


@pytest.mark.gen_test(timeout=60)
async def test_a_hangup_ends_it_at_no_time(tmp_path: Path) -> None:
    """While it starts, while it runs, and while it ends."""
    pod = PodProcess(PORTS, folder=tmp_path)
    try:
        # Before, the program is not read yet, and the system's own way with the signal is to kill.
        await eventually(lambda: engines(tmp_path))
        pod.signal(signal.SIGHUP)
        await pod.started()
        pod.signal(signal.SIGHUP)
        await eventually(lambda: pod.events("reload.applied"))
        pod.terminate()
        while pod.running:
            pod.signal(signal.SIGHUP)
            await asyncio.sleep(0.01)
        await pod.finish()
    finally:
        pod.put_away()
