"""fakeredis with Lua, for what it can do; it runs in this process, so its tests take no time.

What it cannot: it does not know script headers (`#!lua flags=...`), which are cut off here, so it never
says NOSCRIPT, and no script is refused for want of memory; it has no INFO, no CONFIG, no slots, no process
that can be killed or frozen. What hangs on those is tested on real engines only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hiredis
from fakeredis import FakeAsyncRedis, FakeServer

from pushserver.stores import scripts
from pushserver.stores.link import Landed

__all__ = ["FakeRedis"]

_SCRIPTS = [scripts.script(path.stem) for path in (Path(scripts.__file__).parent / "lua").glob("*.lua")]
_BODIES = {
    name.encode(): script.text.partition("\n")[2] for script in _SCRIPTS for name in (script.sha, script.text)
}


class FakeRedis:
    """Looks like the client of `pushserver.stores.client`, and like its pool and the links in it."""

    closed = False

    def __init__(self) -> None:
        self._redis = FakeAsyncRedis(server=FakeServer(version=(7,)), protocol=2)
        self._redis.response_callbacks.clear()
        self.connection_pool = self
        self._travelling: set[asyncio.Task[None]] = set()

    def idle_link(self) -> FakeRedis:
        """One that takes any number of batches at a time."""
        return self

    def give_back(self, link: FakeRedis) -> None:
        """It is free anyway."""

    def drop_idle(self) -> None:
        """There is nothing to be closed."""

    def send(self, parts: Sequence[bytes], landed: Landed) -> None:
        """Carry out packed commands."""
        task = asyncio.ensure_future(self._execute(parts, landed))
        self._travelling.add(task)
        task.add_done_callback(self._travelling.discard)

    async def _execute(self, parts: Sequence[bytes], landed: Landed) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        commands = hiredis.Reader()
        for part in parts:
            commands.feed(part)
            pipeline.execute_command(*_without_header(commands.gets()))
        landed(await pipeline.execute(raise_on_error=False))

    async def aclose(self) -> None:
        """Forget everything."""
        await self._redis.aclose()


def _without_header(args: list[Any]) -> list[Any]:
    """EVALSHA and EVAL become EVAL of the text below the header."""
    if args[0] in {b"EVAL", b"EVALSHA"}:
        return [b"EVAL", _BODIES[args[1]], *args[2:]]
    return args
