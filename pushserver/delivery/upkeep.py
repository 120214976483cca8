"""Upkeep: what is due for a connection that says nothing. Expiry, progress, keepalive."""

from __future__ import annotations

import random

from pushserver.core.clock import StoreClock
from pushserver.delivery.connection import Connection
from pushserver.delivery.limits import Limits

__all__ = ["Upkeep"]


class Upkeep:
    """Judges connections at a moment `now`, in monotonic seconds."""

    def __init__(self, limits: Limits, clock: StoreClock) -> None:
        self._limits = limits
        self._look_s = min(limits.ping_interval_s, limits.ping_timeout_s)
        self._clock = clock

    def first_visit(self, connection: Connection, now: float) -> float:
        """When to look at a new connection first: by then a message may have been stuck for the time-out."""
        return min(now + self._look_s, self.expiry(connection, now))

    def expiry(self, connection: Connection, now: float) -> float:
        """When the token is over, by Redis' clock."""
        return now + connection.expires_at - self._clock.now_s()

    def no_progress(self, connection: Connection, now: float) -> str:
        """What did not come in time, "pong" or "ack"; empty if the connection is sound.

        Any byte that was received, or taken by the kernel out of a backlog, is progress; for who confirms
        by `ack` frames, only these are.
        """
        stalled = connection.stalled_since()
        if stalled is not None:
            last = max(stalled, connection.transport.progressed_at)
            if now - last >= self._limits.ping_timeout_s:
                return "pong"
        waits = connection.ack_mode and connection.ledger.unconfirmed
        if waits and now - connection.ledger.waits_since >= self._limits.ack_timeout_s:
            return "ack"
        return ""

    def keep_alive(self, connection: Connection, now: float) -> float:
        """Ping if the connection was silent for the interval; when to look at it again."""
        # Messages bring pings of their own, whose time-outs are kept, too.
        due = min(self._ping(connection, now), now + self._look_s)
        if connection.ack_mode:
            ledger = connection.ledger
            waits_since = ledger.waits_since if ledger.unconfirmed else now
            due = min(due, waits_since + self._limits.ack_timeout_s)
        return due

    def _ping(self, connection: Connection, now: float) -> float:
        limits, progressed_at = self._limits, connection.transport.progressed_at
        stalled = connection.stalled_since()
        if stalled is not None:
            return max(stalled, progressed_at) + limits.ping_timeout_s
        jitter = random.uniform(0.75, 1.0)  # noqa: S311 - spreads pings, no secret
        ping_at = progressed_at + limits.ping_interval_s * jitter
        if ping_at > now and not 0.0 < connection.ping_by <= now:
            return ping_at
        connection.ping(now)
        return now + limits.ping_timeout_s
