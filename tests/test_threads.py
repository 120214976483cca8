"""Threads that nobody waits for at the exit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from pushserver.threads import DaemonThreads

HANGS = """
import asyncio, time
from pushserver.threads import DaemonThreads

async def main():
    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    hanging = asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
    await asyncio.sleep(0.1)
    hanging.cancel()

asyncio.run(main())
"""


@pytest.mark.gen_test
async def test_a_call_gives_its_result_or_its_error() -> None:
    loop = asyncio.get_running_loop()
    threads = DaemonThreads()
    assert await loop.run_in_executor(threads, lambda: threading.current_thread().daemon)
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(threads, lambda: 1 / 0)


def test_one_that_hangs_holds_up_no_exit() -> None:
    subprocess.run([sys.executable, "-c", HANGS], check=True, timeout=30)
