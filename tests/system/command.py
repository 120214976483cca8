"""Commands of the program, run as users run them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import Any

from tests.pod import SECRET
from tests.pod_process import flags

__all__ = ["run_command"]


async def run_command(
    *arguments: str, settings: Mapping[str, Mapping[str, Any]], within_s: float = 60.0
) -> tuple[int, str]:
    """The exit code and what was printed; with what it wrote to stderr, if that is something."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pushserver", *arguments),
        *flags({"auth": {"secret": SECRET}, **settings}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if not name.startswith("PUSHSERVER_")},
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), within_s)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode() + err.decode()
