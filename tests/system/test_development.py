"""Development mode: an empty folder, one command, and a real engine that goes when the pod goes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
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


@pytest.mark.gen_test(timeout=90)
async def test_serve_seed_and_connect_work_in_an_empty_folder_and_leave_no_engine(tmp_path: Path) -> None:
    """What was seeded and not read outlives a kill -9 and an orderly stop."""
    for number in (signal.SIGKILL, signal.SIGTERM):
        pod = PodProcess(PORTS, folder=tmp_path)
        try:
            await pod.started()
            assert len(engines(tmp_path)) == 1
            assert "development mode" in pod.stdout
            await program(tmp_path, "seed", "alice", "--count", "500", "--text", "hello")
            url = f"ws://127.0.0.1:{pod.port}/ws"
            shown = await program(tmp_path, "connect", "alice", "--count", "500", "--url", url)
            numbers = [
                json.loads(line.split(" ")[-1])["number"] for line in shown if line.startswith("message ")
            ]
            assert numbers == list(range(1, 501))
            pod.signal(number)
            if number == signal.SIGKILL:
                assert await pod.exit_code() == -signal.SIGKILL
            else:
                await pod.finish()
            await eventually(lambda: engines(tmp_path) == [])
        finally:
            pod.put_away()
