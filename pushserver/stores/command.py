"""A command on its way, and who waits for its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from pushserver.core.errors import StoreError
from pushserver.stores.link import Argument, pack
from pushserver.stores.scripts import Script

__all__ = ["Command", "Part", "Whole", "teach"]


class Command:
    """A command on its way, and the future of its answer.

    Packed at once: in the pipeline, what cannot be packed would fail its neighbours. Raises as `pack` does.
    """

    __slots__ = ("answer", "args", "asking", "packed", "publishes", "redirects", "script", "since")

    def __init__(
        self,
        args: tuple[Argument, ...],
        answer: asyncio.Future[Any],
        script: Script | None = None,
        *,
        publishes: bool = False,
    ) -> None:
        self.args = args
        self.packed = pack(args)
        self.answer = answer
        self.script = script
        self.publishes = publishes
        """Takes the publish lane."""
        self.since = 0.0
        """Second of the loop in which it was asked for; 0 before a lane has it."""
        self.asking = False
        """Sent behind ASKING, to the node that a slot is moving to."""
        self.redirects = 0

    def send_text(self, script: Script) -> None:
        """Send the whole script next time, which also teaches it to the engine."""
        self.args = (b"EVAL", script.text, *self.args[2:])
        self.packed = pack(self.args)
        self.script = None

    def is_wanted(self) -> bool:
        """Whether somebody still waits for the answer."""
        return not self.answer.done()

    def resolve(self, result: Any) -> None:
        """Hand the answer to whoever still waits for it."""
        if not self.answer.done():
            self.answer.set_result(result)

    def refuse(self, fault: StoreError) -> None:
        """Hand the error to whoever still waits."""
        if not self.answer.done():
            # One instance for each waiter: a traceback grows on the instance each time it is raised.
            self.answer.set_exception(type(fault)(fault.kind, fault.reason))
            # Whoever was cancelled meanwhile looks no more; that is no "exception never retrieved".
            self.answer.exception()


_NOT_YET = object()


class Whole:
    """Answers that are waited for together: one future for all of them, which is never an error."""

    def __init__(self, size: int) -> None:
        self.answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._results: list[Any] = [_NOT_YET] * size
        self._left = size
        if not size:
            self.answer.set_result([])

    def lacks(self, place: int) -> bool:
        """Whether the answer at `place` is waited for."""
        return self._results[place] is _NOT_YET and not self.answer.done()

    def put(self, place: int, result: Any) -> None:
        """Keep the answer at `place`; with the last of them, tell who waits."""
        if self._results[place] is not _NOT_YET:
            return
        self._results[place] = result
        self._left -= 1
        if not self._left and not self.answer.done():
            self.answer.set_result(self._results)


class Part(Command):
    """A command whose answer, or error, is one of many."""

    __slots__ = ("_place", "_whole")

    def __init__(
        self, args: tuple[Argument, ...], whole: Whole, place: int, script: Script | None = None
    ) -> None:
        super().__init__(args, whole.answer, script)
        self._whole = whole
        self._place = place

    def is_wanted(self) -> bool:
        """Whether somebody still waits for the answer."""
        return self._whole.lacks(self._place)

    def resolve(self, result: Any) -> None:
        """Put the answer where it belongs."""
        self._whole.put(self._place, result)

    def refuse(self, fault: StoreError) -> None:
        """Put the error where the answer belongs."""
        self._whole.put(self._place, fault)


def teach(commands: Iterable[Command]) -> None:
    """Let the first command of each script carry its text; the others follow on the same connection."""
    taught: set[str] = set()
    for command in commands:
        if command.script is not None and command.script.name not in taught:
            taught.add(command.script.name)
            command.send_text(command.script)
