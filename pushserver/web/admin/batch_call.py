"""`POST /v1/messages/batch`: a batch over HTTP, streamed both ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from tornado.iostream import StreamClosedError

from pushserver.web.admin.batch import Batch, Line
from pushserver.web.admin.handler import ApiHandler
from pushserver.web.admin.intake import Intake, max_request_bytes

__all__ = ["BatchCall"]

NDJSON = "application/x-ndjson"
BATCH_S = 600.0
"""How long a batch may take."""


class BatchCall(ApiHandler):
    """Answers as it reads. A client that does not read its results is not read from, either."""

    calls: ClassVar = {"POST": "batch"}
    content_type = NDJSON

    def max_body_bytes(self) -> int:
        """As many lines as a batch may have, each of any length: both have bounds of their own."""
        return 2**62

    def prepare(self) -> None:
        """Get ready to answer the first lines while the others are on their way."""
        super().prepare()
        if self._finished:
            return
        admin = self.admin
        self._batch = Batch(
            Intake(admin.publisher, admin.rules, admin.metrics),
            max_request_bytes(admin.max_content_bytes, admin.rules.max_users),
        )
        self.connection.set_body_timeout(BATCH_S)
        self.set_header("Content-Type", NDJSON)

    async def data_received(self, chunk: bytes) -> None:
        """Answer what is whole; Tornado reads on when this returns."""
        await self._answer(self._batch.feed(chunk))
        if self._batch.ended and not self._finished:
            self.finish()

    async def post(self) -> None:
        """The end of the batch."""
        await self._answer(self._batch.end())
        if not self._finished:
            self.finish()

    async def _answer(self, windows: Iterator[Sequence[Line]]) -> None:
        for window in windows:
            self.write(await self._batch.answer(window))
            try:
                await self.flush()
            except StreamClosedError:
                # Nobody is left to tell: what was not begun stays undone.
                self._batch.ended = True
                return
