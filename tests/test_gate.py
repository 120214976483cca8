"""The gate holds and refuses scripts that are published like any other."""

from __future__ import annotations

import asyncio

import pytest

from pushserver.core.errors import StoreUnavailableError
from pushserver.stores.commands import Commands
from tests.engines.redis_server import RedisServer
from tests.gate import hold, refuse, silence
from tests.stores.engines import commands_of


async def take(commands: Commands) -> int:
    answer: int = await commands.publish("boot_take", ["k"], [0])
    return answer


@pytest.mark.gen_test
async def test_a_script_is_held_refused_and_silenced_when_it_is_published(redis_server: RedisServer) -> None:
    async with commands_of(redis_server.url) as commands:
        gate = hold(commands, "boot_take")
        held = asyncio.ensure_future(take(commands))
        await gate.reached.wait()
        assert await commands.call("GET", "k") is None
        gate.open()
        assert await held == 1
        refuse(commands, "boot_take", times=1, answers=True)
        with pytest.raises(StoreUnavailableError):
            await take(commands)
        assert await take(commands) == 3
        silence(commands)
        with pytest.raises(StoreUnavailableError):
            await take(commands)
    with redis_server.client() as redis:
        assert redis.get("k") == "3"
