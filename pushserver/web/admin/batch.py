"""Many requests to publish, one on a line of NDJSON, and a line of result for each, in order.

Read and answered in windows: the lines of one are published together, and the next is not read before
the former is answered. So a batch of any length holds little memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from pushserver.core.jsontext import dump
from pushserver.core.publication import Publication
from pushserver.web.admin.intake import Intake
from pushserver.web.admin.refusals import Refusal, refusal_of

__all__ = ["MAX_LINES", "Batch", "Line"]

log = structlog.get_logger(__name__)

MAX_LINES = 10_000
"""Lines of a batch that are not blank."""
WINDOW_LINES = 100
WINDOW_BYTES = 1024 * 1024
"""A window is closed by the line that reaches either."""
TURN_BYTES = 16 * 1024
"""What is read of a window before the loop may turn."""

_FAULT = Refusal(500, "internal_server_error", "Internal Server Error")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank; `number` counts from 1 and counts blank ones, too."""

    number: int
    text: bytes
    refusal: Refusal | None = None
    """Set when the line is refused unread."""


class Batch:
    """The lines of one batch. `feed` with the bytes as they come, then `end`; answer each window in turn."""

    def __init__(self, intake: Intake, max_line_bytes: int, max_lines: int = MAX_LINES) -> None:
        self.ended = False
        """After a line too many: nothing that follows is read."""
        self._intake = intake
        self._max_line_bytes = max_line_bytes
        self._max_lines = max_lines
        self._number = 1
        self._taken = 0
        self._begun = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[Sequence[Line]]:
        """The windows that `data` completes; go through all of them."""
        return _windows(self._lines(data))

    def end(self) -> Iterator[Sequence[Line]]:
        """The last line, if it has no newline at its end."""
        return _windows(self._complete())

    async def answer(self, window: Sequence[Line]) -> bytes:
        """Publish a window; a line of result for each of its lines."""
        read: list[Publication | Refusal] = []
        unturned = 0
        for line in window:
            read.append(line.refusal or await self._read(line))
            unturned += len(line.text)
            if unturned >= TURN_BYTES:
                unturned = 0
                await asyncio.sleep(0)
        # In order: what is asked for first is carried out first.
        results = await asyncio.gather(*(self._publish(one) for one in read))
        lines = (dump({"line": line.number, **result}) for line, result in zip(window, results, strict=True))
        return "".join(f"{line}\n" for line in lines).encode()

    # -- one line

    async def _read(self, line: Line) -> Publication | Refusal:
        try:
            return await self._intake.read(line.text)
        except Exception as error:
            return _told(error)

    async def _publish(self, one: Publication | Refusal) -> dict[str, Any]:
        if isinstance(one, Publication):
            try:
                status, fields = await self._intake.publish(one)
            except Exception as error:
                one = _told(error)
            else:
                return {"status": status, **fields}
        return {"status": one.status, "error": one.error()}

    # -- lines

    def _lines(self, data: bytes) -> Iterator[Line]:
        *whole, rest = data.split(b"\n")
        for piece in whole:
            yield from self._add(piece)
            yield from self._complete()
        yield from self._add(rest)

    def _add(self, piece: bytes) -> Iterator[Line]:
        if self._skipping or self.ended:
            return
        self._begun += piece
        if len(self._begun) > self._max_line_bytes:
            self._begun.clear()
            # The rest of the line is thrown away as it comes.
            self._skipping = True
            why = f"a line may have at most {self._max_line_bytes} bytes"
            yield from self._take(b"", Refusal(413, "too_large", why))

    def _complete(self) -> Iterator[Line]:
        if self.ended:
            return
        text = bytes(self._begun)
        self._begun.clear()
        if not self._skipping and text.strip(b" \t\r"):
            yield from self._take(text)
        self._skipping = False
        self._number += 1

    def _take(self, text: bytes, refusal: Refusal | None = None) -> Iterator[Line]:
        self._taken += 1
        if self._taken > self._max_lines:
            self.ended = True
            text = b""
            refusal = Refusal(413, "too_many_lines", f"a batch has at most {self._max_lines} lines")
        yield Line(self._number, text, refusal)


def _windows(lines: Iterator[Line]) -> Iterator[Sequence[Line]]:
    window: list[Line] = []
    size = 0
    for line in lines:
        window.append(line)
        size += len(line.text)
        if len(window) == WINDOW_LINES or size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def _told(error: Exception) -> Refusal:
    refusal = refusal_of(error)
    if refusal is None:
        # One line's fault is not the others': they are carried out.
        log.error("batch.failed", exc_info=error)
        return _FAULT
    return refusal
