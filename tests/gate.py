"""Holding a step back: commands on their way to Redis, or their answers, wait until the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeAlias

from pushserver.core.errors import StoreError, StoreUnavailableError
from pushserver.stores.commands import Argument, Commands

__all__ = ["Fault", "Gate", "hold", "refuse", "silence"]

RunScript: TypeAlias = Callable[[str, Sequence[str], Sequence[Argument]], Awaitable[Any]]
"""`Commands.script`, or `Commands.publish`."""


def _one_by_one(commands: Commands) -> None:
    """Let `Commands.scripts` run each by what `Commands.script` is now."""

    def scripts(name: str, calls: Iterable[tuple[Sequence[str], Sequence[Argument]]]) -> Awaitable[list[Any]]:
        return asyncio.gather(*(commands.script(name, *call) for call in calls), return_exceptions=True)

    commands.scripts = scripts


class Gate:
    """Holds commands of one script (or command name) before they are sent, or their answers after.

    A script is held whether it goes by `script` or by `publish`.

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
        self._dropped = False

    def open(self) -> None:
        """Release what is held and hold nothing any more."""
        self._opened.set()

    def drop(self) -> None:
        """Never send what is held, and hold nothing any more: whoever asked for it is dead."""
        self._dropped = True
        self._opened.set()

    async def pass_through(self, send: Callable[[], Awaitable[Any]], arguments: tuple[Argument, ...]) -> Any:
        """Send, held if it is due."""
        if self._opened.is_set() or not self.matches(arguments):
            return await send()
        self.count += 1
        if not self.answers:
            self.reached.set()
            await self._opened.wait()
            if self._dropped:
                raise StoreUnavailableError("dropped", "never sent")
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
    call = commands.call

    def holding(run: RunScript) -> RunScript:
        def held(script_name: str, keys: Sequence[str], args: Sequence[Argument]) -> Awaitable[Any]:
            if script_name != name:
                return run(script_name, keys, args)
            return asyncio.ensure_future(
                gate.pass_through(lambda: run(script_name, keys, args), (*keys, *args))
            )

        return held

    def held_call(*args: Argument) -> Awaitable[Any]:
        if args[0] != name:
            return call(*args)
        return asyncio.ensure_future(gate.pass_through(lambda: call(*args), args[1:]))

    commands.script = holding(commands.script)  # type: ignore[assignment]  # called by position
    commands.publish = holding(commands.publish)  # type: ignore[assignment]  # called by position
    commands.call = held_call
    _one_by_one(commands)
    return gate


class Fault:
    """What `refuse` does to commands; `count` tells how many it met, `end()` stops it."""

    def __init__(self, error: StoreError, times: int | None, *, answers: bool) -> None:
        self.error = error
        self.count = 0
        self._left = times
        self._answers = answers

    def end(self) -> None:
        """From now on everything goes through."""
        self._left = 0

    def is_due(self) -> bool:
        """Whether the next command fails; counts it."""
        if self._left == 0:
            return False
        self._left = None if self._left is None else self._left - 1
        self.count += 1
        return True

    async def fail(self, send: Callable[[], Awaitable[Any]]) -> Any:
        """Fail instead of sending, or after the command was carried out."""
        if self._answers:
            await send()
        raise type(self.error)(self.error.kind, self.error.reason)


def refuse(
    commands: Commands,
    name: str,
    *,
    times: int | None = None,
    answers: bool = False,
    error: StoreError = StoreUnavailableError("timeout", "a fault of the test"),  # noqa: B008 - a constant
    only: Callable[[tuple[Argument, ...]], bool] = lambda arguments: True,
) -> Fault:
    """Fail the next `times` (None: all) of `name`, as in `hold`, whose keys and arguments satisfy `only`.

    With `answers` the command is carried out and its answer is lost.
    """
    fault = Fault(error, times, answers=answers)
    call = commands.call

    def failing(run: RunScript) -> RunScript:
        def failed(script_name: str, keys: Sequence[str], args: Sequence[Argument]) -> Awaitable[Any]:
            if script_name != name or not only((*keys, *args)) or not fault.is_due():
                return run(script_name, keys, args)
            return asyncio.ensure_future(fault.fail(lambda: run(script_name, keys, args)))

        return failed

    def failing_call(*args: Argument) -> Awaitable[Any]:
        if args[0] != name or not only(args[1:]) or not fault.is_due():
            return call(*args)
        return asyncio.ensure_future(fault.fail(lambda: call(*args)))

    commands.script = failing(commands.script)  # type: ignore[assignment]  # called by position
    commands.publish = failing(commands.publish)  # type: ignore[assignment]  # called by position
    commands.call = failing_call
    _one_by_one(commands)
    return fault


def silence(commands: Commands) -> None:
    """From now on nothing is sent any more, and everything fails: its process is dead."""

    def fail(*_: object, **__: object) -> Awaitable[Any]:
        failed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        failed.set_exception(StoreUnavailableError("silenced", "never sent"))
        failed.exception()  # whoever was cancelled looks no more
        return failed

    commands.script = fail
    commands.publish = fail
    commands.call = fail
    _one_by_one(commands)
