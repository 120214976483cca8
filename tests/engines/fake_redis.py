"""fakeredis with Lua, for what it can do; it runs in this process, so its tests take no time.

What it cannot: it does not know script headers (`#!lua flags=...`), which are cut off here, so it never
says NOSCRIPT, and no script is refused for want of memory; it has no INFO, no CONFIG, no slots, no process
that can be killed or frozen. What hangs on those is tested on real engines only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fakeredis import FakeAsyncRedis, FakeServer

from pushserver.stores import scripts
from pushserver.stores.lane import Argument

__all__ = ["FakeRedis"]

_SCRIPTS = [scripts.script(path.stem) for path in (Path(scripts.__file__).parent / "lua").glob("*.lua")]
_BODIES = {
    name.encode(): script.text.partition("\n")[2] for script in _SCRIPTS for name in (script.sha, script.text)
}


class FakeRedis:
    """Looks like the client of `pushserver.stores.client`."""

    def __init__(self) -> None:
        self._redis = FakeAsyncRedis(server=FakeServer(version=(7,)), protocol=2)
        self._redis.response_callbacks.clear()
        self.connection_pool = self._redis.connection_pool

    def pipeline(self, transaction: bool) -> FakePipeline:
        """A pipeline that runs scripts without their headers."""
        return FakePipeline(self._redis.pipeline(transaction=transaction))

    async def aclose(self) -> None:
        """Forget everything."""
        await self._redis.aclose()


class FakePipeline:
    """Turns EVALSHA and EVAL into EVAL of the text below the header."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    def execute_command(self, *args: Argument) -> None:
        if args[0] in {b"EVAL", b"EVALSHA"}:
            name = args[1].encode() if isinstance(args[1], str) else bytes(args[1])
            args = (b"EVAL", _BODIES[name], *args[2:])
        self._pipeline.execute_command(*args)

    async def execute(self, raise_on_error: bool) -> Any:
        return await self._pipeline.execute(raise_on_error=raise_on_error)
