"""What clients send: pongs and acks confirm, requests are answered, anything else is counted and bounded."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from pushserver.core.close_codes import BLAMES_CONTENT, CloseCode
from pushserver.core.errors import StoreError
from pushserver.core.frames import Binary, Close, Event, Ping, Pong, Text, pong_frame
from pushserver.core.metrics import Metrics
from pushserver.core.server_frames import PONG, error_frame
from pushserver.delivery.connection import Connection
from pushserver.delivery.requests import Ack, ClientPing, Refresh, parse_request
from pushserver.delivery.retry import until_stored
from pushserver.delivery.sent import INBOX, Sent
from pushserver.delivery.settle import Settler
from pushserver.delivery.tasks import Tasks
from pushserver.stores.inbox import Inbox, Missed

__all__ = ["Incoming"]

log = structlog.get_logger(__name__)

MAX_BAD_FRAMES = 10
TEXT_BYTES = 1024
"""So many bytes of a text count as a frame."""
MAX_TEXT_BYTES = 64 * 1024
"""A longer text asks for nothing that we know: some thousand ids. It is not parsed, which would take long."""
MAX_PONG_BACKLOG = 64 * 1024
"""A client that pings and does not read is answered no more beyond this many unsent bytes."""


class Incoming:
    """Handles the events of all connections.

    `end` closes a connection with a code and a reason; `refresh` is what a `refresh` request runs; `pass_by`
    moves a user's cursor past a place in the log.
    """

    def __init__(
        self,
        inbox: Inbox,
        settler: Settler,
        metrics: Metrics,
        tasks: Tasks,
        *,
        frames_per_s: int,
        end: Callable[[Connection, CloseCode, str], None],
        refresh: Callable[[Connection, str], Coroutine[Any, Any, None]],
        pass_by: Callable[[str, int], None],
    ) -> None:
        self._inbox = inbox
        self._settler = settler
        self._metrics = metrics
        self._tasks = tasks
        self._frames_per_s = frames_per_s
        self._end = end
        self._refresh = refresh
        self._pass_by = pass_by

    def received(self, connection: Connection, events: list[Event], frames: int) -> None:
        """Events of one read, in order; `frames` is how many frames they came in, fragments included.

        Nothing behind the frame that ends the connection is looked at, so a flood costs what is allowed.
        """
        now = time.monotonic()
        for event in events:
            if not connection.is_open():
                return
            if not self._handle(connection, event, now):
                self._count(connection, _weight(event), now)
        if frames != len(events):
            self._count(connection, frames - len(events), now)

    def _handle(self, connection: Connection, event: Event, now: float) -> bool:
        """Answers whether the event confirmed something: receipts are as many as messages, not a flood."""
        match event:
            case Pong(payload):
                return self._pong(connection, payload, now)
            case Text(payload):
                return self._request(connection, payload, now)
            case Ping(payload):
                if connection.transport.buffered <= MAX_PONG_BACKLOG:
                    connection.transport.write(pong_frame(payload))
            case Binary():
                self._end(connection, CloseCode.UNSUPPORTED_DATA, "text frames only")
            case Close(code, _):
                self._client_closes(connection, code)
        return False

    def _count(self, connection: Connection, frames: int, now: float) -> None:
        second = int(now)
        if connection.frames_second != second:
            connection.frames_second, connection.frames_counted = second, 0
        connection.frames_counted += frames
        if connection.frames_counted > self._frames_per_s and connection.is_open():
            self._end(connection, CloseCode.RATE, "too many frames")

    # -- receipts

    def _pong(self, connection: Connection, payload: bytes, now: float) -> bool:
        answer = connection.pong(payload, now)
        if answer is None:
            self._metrics.receipts_ignored.labels("pong").inc()
            return False
        confirmed, told = answer
        if confirmed:
            self._settler.confirmed(connection, confirmed, "pong")
        if told is not None:
            self._tasks.spawn(self._told(connection, told), "missed told")
        return True

    async def _told(self, connection: Connection, missed: Missed) -> None:
        await until_stored(lambda: self._inbox.told(connection.user, missed), connection.is_open)

    def _ack(self, connection: Connection, ids: list[object], now: float) -> bool:
        if not connection.ack_mode:
            self._refuse(connection, "bad_frame", "ack needs the subprotocol pushserver.v1.ack")
            return False
        confirmed = connection.ack(ids, now)
        if len(confirmed) < len(ids):
            self._metrics.receipts_ignored.labels("ack").inc(len(ids) - len(confirmed))
        if confirmed:
            self._settler.confirmed(connection, confirmed, "ack")
        return bool(confirmed)

    # -- requests

    def _request(self, connection: Connection, payload: bytes, now: float) -> bool:
        try:
            if len(payload) > MAX_TEXT_BYTES:
                raise ValueError("too long")  # noqa: TRY301 - one way to refuse
            request = parse_request(payload)
        except ValueError as error:
            self._refuse(connection, "bad_frame", str(error))
            return False
        match request:
            case Ack(ids):
                return self._ack(connection, ids, now)
            case ClientPing():
                connection.transport.write(PONG)
            case Refresh(token):
                self._tasks.spawn(self._refresh(connection, token), "refresh")
        return False

    def _refuse(self, connection: Connection, code: str, message: str) -> None:
        self._metrics.frames_refused.inc()
        connection.bad_frames += 1
        if connection.bad_frames >= MAX_BAD_FRAMES:
            self._end(connection, CloseCode.BAD_FRAMES, "too many bad frames")
        else:
            connection.transport.write(error_frame(code, message))

    # -- the client's goodbye

    def _client_closes(self, connection: Connection, code: int | None) -> None:
        if code in BLAMES_CONTENT and connection.ledger.unconfirmed:
            alone = connection.alone_in_flight()
            self._tasks.spawn(self._blame(connection.user, alone), "blame")
        self._end(connection, CloseCode(code) if code in _ECHOED else CloseCode.NORMAL, "")

    async def _blame(self, user: str, alone: Sent | None) -> None:
        from_log = alone is not None and alone.position > INBOX
        try:
            if await self._inbox.blame(user, alone.id if alone else None, from_log=from_log) and alone:
                self._metrics.parked.inc()
                log.warning("message.parked", message_id=alone.id, user=user)
                if from_log:
                    self._pass_by(user, alone.position)
        except StoreError as error:
            log.warning("message.blame_lost", user=user, reason=error.kind)


def _weight(event: Event) -> int:
    """Frames that an event counts as: a text is read, which takes the longer the more there is of it."""
    return 1 + len(event.payload) // TEXT_BYTES if isinstance(event, Text) else 1


_ECHOED = frozenset(CloseCode)
