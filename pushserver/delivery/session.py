"""The story of a connection, top to bottom: connect, catch up, live, disconnect.

    open        Manager.add, welcome
    _serve      presence flushed, inbox read right after it, caught up, `live`
    received    pongs and acks confirm, requests are answered
    closed      Manager.remove, presence reconciled

Two orders make delivery prompt: on connect, presence is written *before* the inbox is read; on publish,
the inbox is written *before* presence is read. One of the two always sees the message.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from pushserver import __version__
from pushserver.core.categories import Categories
from pushserver.core.clock import StoreClock
from pushserver.core.close_codes import BLAMES_CONTENT, CloseCode
from pushserver.core.errors import NotAuthenticatedError, StoreError
from pushserver.core.frames import Binary, Close, Event, Ping, Pong, Text, pong_frame
from pushserver.core.metrics import Metrics
from pushserver.core.server_frames import PONG, error_frame, live_frame, welcome_frame
from pushserver.delivery.catch_up import CatchUp, CaughtUp
from pushserver.delivery.connection import Connection, Sent, State, Transport
from pushserver.delivery.manager import Manager
from pushserver.delivery.presence import Presence
from pushserver.delivery.requests import Ack, ClientPing, Refresh, parse_request
from pushserver.delivery.retry import until_stored
from pushserver.delivery.settle import Settler
from pushserver.delivery.tasks import Tasks
from pushserver.delivery.wheel import Wheel
from pushserver.exposure.event import Proof
from pushserver.stores.inbox import Inbox, Missed, Page

__all__ = ["Limits", "Sessions", "Verified"]

log = structlog.get_logger(__name__)

MAX_BAD_FRAMES = 10
MAX_PONG_BACKLOG = 64 * 1024
"""A client that pings and does not read is answered no more beyond this many unsent bytes."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Who a handshake or a refresh has shown to be there."""

    user: str
    expires_at: float
    """Seconds since 1970 by Redis' clock, leeway included, when the connection ends."""
    token_expires: float
    """The token's own expiry, as the client is told."""
    categories: Categories


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one connection."""

    messages: int
    """Unconfirmed messages at most (`delivery.window`)."""
    bytes: int
    """Unconfirmed bytes at most (`delivery.window_bytes`)."""
    ping_interval_s: float
    ping_timeout_s: float
    ack_timeout_s: float
    frames_per_s: int
    per_user: int
    """Connections of one user on this pod at most; 0 switches it off."""


class Sessions:
    """All connections of this pod, from open to closed."""

    def __init__(
        self,
        *,
        pod: str,
        manager: Manager,
        presence: Presence,
        inbox: Inbox,
        catch_up: CatchUp,
        settler: Settler,
        clock: StoreClock,
        metrics: Metrics,
        tasks: Tasks,
        limits: Limits,
        refresh: Callable[[str, str], Awaitable[Verified]],
    ) -> None:
        self._pod = pod
        self._manager = manager
        self._presence = presence
        self._inbox = inbox
        self._catch_up = catch_up
        self._settler = settler
        self._clock = clock
        self._metrics = metrics
        self._tasks = tasks
        self._limits = limits
        self._refresh = refresh
        self.wheel = Wheel(self._visit)

    # -- connect

    def open(self, who: Verified, *, client_ip: str, ack_mode: bool, transport: Transport) -> Connection:
        """Register a connection whose upgrade is about to be answered, and begin to serve it.

        Synchronous: whoever verified the user registers the connection in the same turn of the loop.
        """
        connection = Connection(
            connection_id=secrets.token_urlsafe(9),
            user=who.user,
            categories=who.categories,
            client_ip=client_ip,
            expires_at=who.expires_at,
            transport=transport,
            window=self._limits,
            ack_mode=ack_mode,
        )
        self._manager.add(connection)
        self._replace_oldest(connection.user)
        transport.write(self._welcome(connection, who))
        self._wheel_in(connection)
        self._tasks.spawn(self._serve(connection), "serve connection")
        return connection

    def _welcome(self, connection: Connection, who: Verified) -> bytes:
        return welcome_frame(
            connection=connection.id,
            pod=self._pod,
            user=who.user,
            categories=who.categories,
            expires=who.token_expires,
            version=__version__,
        )

    def _replace_oldest(self, user: str) -> None:
        held = [one for one in self._manager.of(user) if one.is_open()]
        excess = len(held) - self._limits.per_user if self._limits.per_user else 0
        for oldest in held[: max(0, excess)]:
            oldest.close(CloseCode.REPLACED, "replaced by a newer connection")
            # At once, not when its goodbye is through: it no longer counts.
            self.closed(oldest, None)

    def _wheel_in(self, connection: Connection) -> None:
        # Spread, so that clients that came in a storm are not pinged in one.
        first = self._limits.ping_interval_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        now = time.monotonic()
        self.wheel.put(connection, min(now + first, self._expiry(connection, now)))

    # -- catch up, live

    async def _serve(self, connection: Connection) -> None:
        first = await self._presence.flushed(connection.user)
        if first is None or not connection.is_open():
            return
        connection.suspect = first.blamed
        await self._feed(connection, first.page)
        if connection.suspect:
            await self._absolve(connection)

    async def _feed(self, connection: Connection, page: Page | None) -> None:
        """Catch up, from a page that was read already or from a new one, until nothing is unsent."""
        caught_up = await self._catch_up.run(connection, page)
        if caught_up is None:
            return
        connection.state = State.LIVE
        if not connection.opened:
            self._go_live(connection, caught_up)

    def _go_live(self, connection: Connection, caught_up: CaughtUp) -> None:
        connection.opened = True
        missed = caught_up.missed
        frame = live_frame(
            delivered=caught_up.delivered,
            expired=missed.expired,
            evicted=missed.evicted,
            parked=missed.parked,
            gap=False,
        )
        connection.tell(frame, missed, time.monotonic())

    async def _absolve(self, connection: Connection) -> None:
        await connection.wait_for_confirms()
        if not connection.is_open():
            return
        connection.suspect = False
        await until_stored(lambda: self._inbox.absolve(connection.user), connection.is_open)

    def look_again(self, connection: Connection) -> None:
        """The inbox may hold something new: read it, now or right after the read that is under way."""
        if connection.state is State.LIVE:
            connection.state = State.CATCHING_UP
            self._tasks.spawn(self._feed(connection, None), "serve connection")
        else:
            connection.wants_look = True

    # -- what the client sends

    def received(self, connection: Connection, events: list[Event], frames: int) -> None:
        """Events of one read, in order; `frames` is how many frames they came in, fragments included."""
        now = time.monotonic()
        counted = frames - sum(self._handle(connection, event, now) for event in events)
        if counted > 0:
            self._count(connection, counted, now)

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
                connection.close(CloseCode.UNSUPPORTED_DATA, "text frames only")
            case Close(code, _):
                self._client_closes(connection, code)
        return False

    def _pong(self, connection: Connection, payload: bytes, now: float) -> bool:
        answer = connection.pong(payload, now)
        if answer is None:
            self._metrics.receipts_ignored.labels("pong").inc()
            return False
        confirmed, told = answer
        self._confirmed(connection, confirmed, "pong")
        for missed in told:
            self._tasks.spawn(self._told(connection, missed), "missed told")
        return True

    async def _told(self, connection: Connection, missed: Missed) -> None:
        await until_stored(lambda: self._inbox.told(connection.user, missed), connection.is_open)

    def _confirmed(self, connection: Connection, items: list[Sent], proof: Proof) -> None:
        if items:
            self._settler.confirmed(connection, items, proof)

    def _request(self, connection: Connection, payload: bytes, now: float) -> bool:
        try:
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
                self._tasks.spawn(self._refreshed(connection, token), "refresh")
        return False

    def _ack(self, connection: Connection, ids: list[object], now: float) -> bool:
        if not connection.ack_mode:
            self._refuse(connection, "bad_frame", "ack needs the subprotocol pushserver.v1.ack")
            return False
        confirmed = connection.ack(ids, now)
        if len(confirmed) < len(ids):
            self._metrics.receipts_ignored.labels("ack").inc(len(ids) - len(confirmed))
        self._confirmed(connection, confirmed, "ack")
        return bool(confirmed)

    def _refuse(self, connection: Connection, code: str, message: str) -> None:
        self._metrics.frames_refused.inc()
        connection.bad_frames += 1
        if connection.bad_frames >= MAX_BAD_FRAMES:
            connection.close(CloseCode.BAD_FRAMES, "too many bad frames")
        else:
            connection.transport.write(error_frame(code, message))

    def _count(self, connection: Connection, frames: int, now: float) -> None:
        second = int(now)
        if connection.frames_second != second:
            connection.frames_second, connection.frames_counted = second, 0
        connection.frames_counted += frames
        if self._limits.frames_per_s and connection.frames_counted > self._limits.frames_per_s:
            connection.close(CloseCode.RATE, "too many frames")

    async def _refreshed(self, connection: Connection, token: str) -> None:
        """A new token of the same user: new expiry and categories. Any other closes with 4401."""
        try:
            who = await self._refresh(token, connection.user)
        except NotAuthenticatedError as error:
            connection.close(CloseCode.NOT_AUTHENTICATED, error.reason)
            return
        except StoreError:
            connection.transport.write(error_frame("unavailable", "try the refresh again"))
            return
        if not connection.is_open():
            return
        connection.expires_at = who.expires_at
        self._manager.change_categories(connection, who.categories)
        connection.transport.write(self._welcome(connection, who))
        now = time.monotonic()
        self.wheel.put(connection, min(now + 1, self._expiry(connection, now)))

    def _client_closes(self, connection: Connection, code: int | None) -> None:
        if code in BLAMES_CONTENT and connection.unconfirmed:
            alone = connection.alone_in_flight()
            self._tasks.spawn(self._blame(connection.user, alone), "blame")
        connection.close(
            CloseCode.NORMAL if code is None else CloseCode(code) if code in _ECHOED else CloseCode.NORMAL
        )

    async def _blame(self, user: str, alone: str | None) -> None:
        try:
            if await self._inbox.blame(user, alone):
                self._metrics.parked.inc()
                log.warning("message.parked", message_id=alone, user=user)
        except StoreError as error:
            log.warning("message.blame_lost", user=user, reason=error.kind)

    # -- what is due

    def _visit(self, connection: Connection, now: float) -> float | None:
        """Look at a connection: expired, stalled, or due for a ping. The second of the next look."""
        if not connection.is_open():
            return None
        expiry = self._expiry(connection, now)
        if expiry <= now:
            connection.close(CloseCode.NOT_AUTHENTICATED, "token expired")
            return None
        if reason := self._no_progress(connection, now):
            self._metrics.unpromptly_closed.labels(reason).inc()
            connection.close(CloseCode.NO_PROGRESS, f"no {reason}")
            return None
        return min(self._keep_alive(connection, now), expiry)

    def _no_progress(self, connection: Connection, now: float) -> str:
        limits = self._limits
        stalled = connection.stalled_since()
        if stalled is not None:
            last = max(stalled, connection.transport.progressed_at)
            if now - last >= limits.ping_timeout_s:
                return "pong"
        waits = connection.ack_mode and connection.unconfirmed
        if waits and now - connection.waits_since >= limits.ack_timeout_s:
            return "ack"
        return ""

    def _keep_alive(self, connection: Connection, now: float) -> float:
        limits = self._limits
        stalled = connection.stalled_since()
        due = now + limits.ping_interval_s
        if stalled is None:
            jitter = random.uniform(0.75, 1.0)  # noqa: S311 - spreads pings, no secret
            ping_at = connection.transport.progressed_at + limits.ping_interval_s * jitter
            if ping_at > now:
                due = ping_at
            else:
                connection.ping(now)
                due = now + limits.ping_timeout_s
        else:
            due = max(stalled, connection.transport.progressed_at) + limits.ping_timeout_s
        if connection.ack_mode:
            waits_since = connection.waits_since if connection.unconfirmed else now
            due = min(due, waits_since + limits.ack_timeout_s)
        return due

    def _expiry(self, connection: Connection, now: float) -> float:
        """Monotonic second at which the token is over, by Redis' clock."""
        return now + connection.expires_at - self._clock.now_s()

    # -- disconnect

    def closed(self, connection: Connection, code: int | None) -> None:
        """The connection is gone. Presence goes with the user's last connection here. Twice is once."""
        if not connection.is_open():
            return
        connection.closed()
        self.wheel.remove(connection)
        self._metrics.closes.labels(_label(code)).inc()
        if self._manager.remove(connection):
            self._presence.mark(connection.user)


_ECHOED = frozenset(CloseCode)


def _label(code: int | None) -> str:
    """A close code as a metric label; of codes that clients make up, only that they did."""
    if code is None:
        return "none"
    return str(code) if code in _ECHOED else "other"
