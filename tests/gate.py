"""Holding a step back: commands on their way to Redis, or their answers, wait until the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pushserver.stores.commands import Argument, Commands

__all__ = ["Gate", "hold"]


class Gate:
    """Holds commands of one script (or command name) before they are sent, or their answers after.

    gate = hold(pod.app.stores.commands, "inbox_read", answers=True)
    await gate.reached.wait()    # Redis has answered, nobody knows yet
    ...
    gate.open()                  # go on, and hold nothing any more
    """

    def __init__(self, matches: Callable[[tuple[Argument, ...]], bool], *, answers: bool) -> None:
        self.matches = matches
        self.answers = answers
        self.reached = asyncio.Event()
        self.count = 0
        """How many steps were held."""
        self._opened = asyncio.Event()

    def open(self) -> None:
        """Release what is held and hold nothing any more."""
        self._opened.set()

    async def pass_through(self, send: Callable[[], Awaitable[Any]], arguments: tuple[Argument, ...]) -> Any:
        """Send, held if it is due."""
        if self._opened.is_set() or not self.matches(arguments):
            return await send()
        self.count += 1
        if not self.answers:
            self.reached.set()
            await self._opened.wait()
            return await send()
        answer = await send()
        self.reached.set()
        await self._opened.wait()
        return answer


def hold(
    commands: Commands,
    name: str,
    *,
    answers: bool = False,
    only: Callable[[tuple[Argument, ...]], bool] = lambda arguments: True,
) -> Gate:
    """Hold every `name` (a script, or a command in capitals) whose keys and arguments satisfy `only`."""
    gate = Gate(only, answers=answers)
    script, call = commands.script, commands.call

    def held_script(script_name: str, keys: Sequence[str], args: Sequence[Argument]) -> Awaitable[Any]:
        if script_name != name:
            return script(script_name, keys, args)
        return asyncio.ensure_future(
            gate.pass_through(lambda: script(script_name, keys, args), (*keys, *args))
        )

    def held_call(*args: Argument) -> Awaitable[Any]:
        if args[0] != name:
            return call(*args)
        return asyncio.ensure_future(gate.pass_through(lambda: call(*args), args[1:]))

    commands.script = held_script  # type: ignore[method-assign]
    commands.call = held_call  # type: ignore[method-assign]
    return gate
