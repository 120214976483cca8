"""The story of a connection, top to bottom: connect, catch up, live, disconnect.

    open        Manager.add, welcome
    serve       presence flushed, inbox read right after it, caught up, then with the log, `live`
    received    pongs and acks confirm, requests are answered (`incoming`)
    _visit      what is due without the client saying anything (`upkeep`)
    end, closed Manager.remove, presence reconciled

Two orders make delivery prompt: on connect, presence is written *before* the inbox is read; on publish,
the inbox is written *before* presence is read. One of the two always sees the message.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pushserver import __version__
from pushserver.core.categories import Categories
from pushserver.core.clock import StoreClock
from pushserver.core.close_codes import CloseCode
from pushserver.core.errors import FetchError, NotAuthenticatedError, StoreError
from pushserver.core.frames import Event
from pushserver.core.metrics import Metrics
from pushserver.core.server_frames import error_frame, live_frame, welcome_frame
from pushserver.delivery.catch_up import CatchUp
from pushserver.delivery.connection import Connection, State
from pushserver.delivery.cursors import Cursors
from pushserver.delivery.incoming import Incoming
from pushserver.delivery.limits import Limits
from pushserver.delivery.log_catch_up import LogCatchUp
from pushserver.delivery.log_tail import LogTail
from pushserver.delivery.manager import Manager
from pushserver.delivery.presence import Presence
from pushserver.delivery.reminders import Reminders
from pushserver.delivery.retry import until_stored
from pushserver.delivery.settle import Settler
from pushserver.delivery.tasks import Tasks
from pushserver.delivery.transport import Transport
from pushserver.delivery.upkeep import Upkeep
from pushserver.delivery.wheel import Wheel
from pushserver.stores.inbox import Inbox, Missed, Page

__all__ = ["Limits", "Sessions", "Verified"]


@dataclass(frozen=True, slots=True)
class Verified:
    """Who a handshake or a refresh has shown to be there."""

    user: str
    expires_at: float
    """Seconds since 1970 by Redis' clock, leeway included, when the connection ends."""
    token_expires: float
    """The token's own expiry, as the client is told."""
    categories: Categories
    categories_version: int | None = None
    """Which version of the stored categories these are; None if they are not stored ones."""
    log_at: int = 0
    """The user's cursor: the place in the log up to which everything was settled."""


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
        log_catch_up: LogCatchUp,
        tail: LogTail,
        cursors: Cursors,
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
        self._log_catch_up = log_catch_up
        self._tail = tail
        self._cursors = cursors
        self._settler = settler
        self._metrics = metrics
        self._tasks = tasks
        self._limits = limits
        self._refresh = refresh
        self._refreshing: set[Connection] = set()
        self._upkeep = Upkeep(limits, clock)
        self._incoming = Incoming(
            inbox,
            settler,
            metrics,
            tasks,
            frames_per_s=limits.frames_per_s,
            end=self.end,
            refresh=self._refreshed,
            pass_by=cursors.pass_by,
        )
        self.wheel = Wheel(self._visit)
        self.reminders = Reminders(self._reminded)
        self.on_stale_categories: Callable[[str], None] = lambda user: None
        """Called when the categories that a user came with are not the stored ones any more."""
        self.leaving: set[Connection] = set()
        """Those that were said goodbye to, until their sockets are closed, too."""

    # -- connect

    def open(
        self, who: Verified, *, client_ip: str, ack_mode: bool, transport: Transport, deflates_up_to: int = 0
    ) -> Connection:
        """Register a connection whose upgrade is about to be answered; `serve` comes next, in the same turn.

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
            log_at=who.log_at,
            deflates_up_to=deflates_up_to,
        )
        self._manager.add(connection)
        try:
            self._replace_oldest(connection.user)
            transport.write(self._welcome(connection, who))
            self.wheel.put(connection, self._upkeep.first_visit(connection, time.monotonic()))
        except Exception:
            # Nobody has it who could take it out again.
            self._leave(connection, None)
            raise
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
        held = self._manager.of(user)
        excess = len(held) - self._limits.per_user if self._limits.per_user else 0
        for oldest in held[: max(0, excess)]:
            self.end(oldest, CloseCode.REPLACED, "replaced by a newer connection")

    # -- catch up, live

    async def serve(self, connection: Connection, categories_version: int | None) -> None:
        """Serve a connection that was just opened until it is live, or closed.

        `categories_version` is of the categories that it came with. An error ends the connection, and is
        raised.
        """
        await self._unless_broken(connection, lambda one: self._begin(one, categories_version))

    async def _unless_broken(
        self, connection: Connection, work: Callable[[Connection], Awaitable[None]]
    ) -> None:
        try:
            await work(connection)
        except Exception:
            # Nobody would feed this connection any more; the client comes back to one that is fed.
            connection.transport.abort()
            raise

    async def _begin(self, connection: Connection, categories_version: int | None) -> None:
        first = await self._presence.flushed(connection.user)
        if first is None or not connection.is_open():
            return
        if categories_version not in {None, first.categories_version}:
            # Changed after they were read and before presence was there to be told.
            self.on_stale_categories(connection.user)
        connection.suspect = first.blamed
        await self._feed(connection, first.page)
        if connection.suspect:
            await self._absolve(connection)

    async def _feed(self, connection: Connection, page: Page | None = None) -> None:
        """Catch up, from a page that was read already or from a new one, until nothing is unsent."""
        delivered, gap = 0, False
        while True:
            inbox = await self._catch_up.run(connection, page)
            log = None if inbox is None else await self._log_catch_up.run(connection)
            if inbox is None or log is None:
                return
            delivered, gap, page = delivered + inbox.delivered + log.delivered, gap or log.gap, None
            if connection.opened and gap:
                # What it missed is told by a `live` frame, and that comes once a connection. The cursor stays
                # where it is, so that the next one is told.
                self.end(connection, CloseCode.NO_PROGRESS, "too far behind")
                return
            if not connection.wants_look:
                break
        connection.state = State.LIVE
        if not connection.opened:
            self._go_live(connection, delivered, inbox.missed, gap=gap)

    def _go_live(self, connection: Connection, delivered: int, missed: Missed, *, gap: bool) -> None:
        connection.opened = True
        frame = live_frame(
            delivered=delivered,
            expired=missed.expired,
            evicted=missed.evicted,
            parked=missed.parked,
            gap=gap,
        )
        connection.tell(frame, missed, time.monotonic())

    async def _absolve(self, connection: Connection) -> None:
        await connection.wait_for_confirms()
        if not connection.is_open():
            return
        connection.suspect = False
        await until_stored(lambda: self._inbox.absolve(connection.user), connection.is_open)

    def look_again(self, connection: Connection) -> None:
        """The inbox or the log may hold something new: look, now or right after the look under way."""
        if connection.state is State.LIVE:
            # What came while it was live it was offered; what of that means the user only since the
            # categories changed is not theirs.
            connection.fall_behind(self._tail.offered)
            self._tasks.spawn(self._unless_broken(connection, self._feed), "serve connection")
        else:
            connection.wants_look = True

    def pushed(self, connection: Connection) -> None:
        """Something was pushed whose confirm can wait: see to it that a ping goes out in time."""
        if connection.ping_by:
            self.reminders.put(connection, connection.ping_by)

    def _reminded(self, connection: Connection, now: float) -> None:
        """The ping that was planned may have gone out with something else, and another be planned since."""
        ping_by = connection.ping_by
        if not ping_by or not connection.is_open():
            return
        if ping_by > now:
            self.reminders.put(connection, ping_by)
        elif connection.stalled_since() is None:
            # While another is in flight it goes out with that one's pong.
            connection.ping(now)

    # -- what the client sends

    def received(self, connection: Connection, events: list[Event], frames: int) -> None:
        """Events of one read, in order; `frames` is how many frames they came in, fragments included."""
        self._incoming.received(connection, events, frames)

    async def _refreshed(self, connection: Connection, token: str) -> None:
        """One at a time: each may ask a back end, whose answers others wait for as well."""
        if connection in self._refreshing:
            connection.transport.write(error_frame("unavailable", "a refresh is under way, try again"))
            return
        self._refreshing.add(connection)
        try:
            await self._take_token(connection, token)
        finally:
            self._refreshing.discard(connection)

    async def _take_token(self, connection: Connection, token: str) -> None:
        """A new token of the same user: new expiry and categories. Any other closes with 4401."""
        try:
            who = await self._refresh(token, connection.user)
        except NotAuthenticatedError as error:
            self.end(connection, CloseCode.NOT_AUTHENTICATED, error.reason)
            return
        except (StoreError, FetchError):
            connection.transport.write(error_frame("unavailable", "try the refresh again"))
            return
        if not connection.is_open():
            return
        connection.expires_at = who.expires_at
        self._manager.change_categories(connection, who.categories)
        if who.categories_version is not None:
            # They may have changed since they were read, and the connection may have been moved already.
            self.on_stale_categories(connection.user)
        connection.transport.write(self._welcome(connection, who))
        now = time.monotonic()
        self.wheel.put(connection, min(now + 1, self._upkeep.expiry(connection, now)))

    # -- what is due

    def _visit(self, connection: Connection, now: float) -> float | None:
        """Look at a connection: expired, stalled, or due for a ping. The second of the next look."""
        expiry = self._upkeep.expiry(connection, now)
        if expiry <= now:
            self.end(connection, CloseCode.NOT_AUTHENTICATED, "token expired")
            return None
        if reason := self._upkeep.no_progress(connection, now):
            self._metrics.unpromptly_closed.labels(reason).inc()
            self.end(connection, CloseCode.NO_PROGRESS, f"no {reason}")
            return None
        self._cursors.refresh(connection)
        return min(self._upkeep.keep_alive(connection, now), expiry)

    # -- disconnect

    def end(self, connection: Connection, code: CloseCode, reason: str) -> None:
        """Say goodbye. The connection counts no more from now on, not only when its socket is closed."""
        if not connection.is_open():
            return
        self.leaving.add(connection)
        connection.close(code, reason)
        self._leave(connection, code)

    def kick(self, user: str) -> None:
        """The back end disconnects the user, on this pod."""
        for connection in self._manager.of(user):
            self.end(connection, CloseCode.KICKED, "disconnected")

    def closed(self, connection: Connection, code: int | None) -> None:
        """The socket is closed. Twice is once."""
        self.leaving.discard(connection)
        if connection.is_open():
            self._leave(connection, code)

    def _leave(self, connection: Connection, code: int | None) -> None:
        """Presence goes with the user's last connection here; an error of ours may keep nobody here."""
        try:
            self._cursors.left(connection)
            if connection.settling:
                self._settler.hurry()
        finally:
            self.wheel.remove(connection)
            self._metrics.closes.labels(_label(code)).inc()
            if self._manager.remove(connection):
                self._presence.mark(connection.user)
            connection.closed()


_KNOWN = frozenset(CloseCode)


def _label(code: int | None) -> str:
    """A close code as a metric label; of codes that clients make up, only that they did."""
    if code is None:
        return "none"
    return str(int(code)) if code in _KNOWN else "other"
