"""From what was read to the database: decoded and stored in a thread, so that no loop waits for a disk."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from pushserver.core.errors import DatabaseError, DatabaseRefusedError, InvalidEventError
from pushserver.database.database import Database
from pushserver.exposure.decoder import Decoder
from pushserver.exposure.record import DeadLetter, Record, Taken

__all__ = ["Intake"]

Answer = TypeVar("Answer")

ABORT_S = 5.0
"""How long a call that was aborted may take to end."""


class Intake:
    """Stores events. `timeout_s` bounds a batch: a database that hangs longer is disconnected."""

    def __init__(self, database: Database, *, timeout_s: float) -> None:
        self._database = database
        self._timeout_s = timeout_s
        self._decoder = Decoder()
        # One: the database has one connection, and the decoder is not for two.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._last: asyncio.Future[Any] | None = None

    async def open(self) -> None:
        """Connect, and make what is missing of the tables. Raises `DatabaseError` or `ConfigError`."""
        await self._in_thread(self._database.open)

    async def take(self, events: Sequence[bytes]) -> Taken:
        """Return when all of them are committed, as records or as dead letters.

        Raises `DatabaseError`; taking the same again is safe.
        """
        return await self._in_thread(lambda: self._take(events))

    async def close(self) -> None:
        """Disconnect; waits for a call under way, which its time-out bounds."""
        with suppress(DatabaseError):
            await self._in_thread(self._database.close)
        self._thread.shutdown(wait=False)

    def _take(self, events: Sequence[bytes]) -> Taken:
        decoded, letters = self._decode(events)
        try:
            stored = self._database.store(
                [record for records in decoded.values() for record in records], letters
            )
            new = stored.new
        except DatabaseRefusedError:
            # Something in it is poison that nobody thought of: the rest must not wait for it.
            new = 0
            for data, records in list(decoded.items()):
                try:
                    new += self._database.store(records, []).new
                except DatabaseRefusedError as error:
                    del decoded[data]
                    letters.append(DeadLetter(data, "refused", error.reason))
            self._database.store([], letters)
        total = sum(len(records) for records in decoded.values())
        confirmed_at = max((one.confirmed_at for records in decoded.values() for one in records), default=0)
        return Taken(total, new, Counter(letter.reason for letter in letters), confirmed_at)

    def _decode(self, events: Sequence[bytes]) -> tuple[dict[bytes, list[Record]], list[DeadLetter]]:
        """Records by event, repeats of an event left out; and what is no event."""
        decoded: dict[bytes, list[Record]] = {}
        letters: list[DeadLetter] = []
        for data in dict.fromkeys(events):
            try:
                decoded[data] = self._decoder.decode(data)
            except InvalidEventError as error:
                letters.append(DeadLetter(data, error.reason, error.detail))
        return decoded, letters

    async def _in_thread(self, work: Callable[[], Answer]) -> Answer:
        if self._last is not None and not self._last.done():
            # Aborted, and did not end: what is asked now would only wait behind it.
            await self._wait_for(self._last)
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        self._last = future
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.shield(future)
        except TimeoutError:
            self._database.abort()
            return await self._wait_for(future)

    async def _wait_for(self, future: asyncio.Future[Answer]) -> Answer:
        try:
            async with asyncio.timeout(ABORT_S):
                return await asyncio.shield(future)
        except TimeoutError:
            raise DatabaseError("timeout", f"no answer within {self._timeout_s:g} s") from None
