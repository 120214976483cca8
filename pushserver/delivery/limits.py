"""The bounds of one connection."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one connection; the same for all."""

    messages: int
    """Unconfirmed messages at most (`delivery.window`)."""
    bytes: int
    """Unconfirmed bytes at most (`delivery.window_bytes`)."""
    ping_interval_s: float
    ping_timeout_s: float
    ack_timeout_s: float
    log_confirm_s: float
    """How long a ping for messages from the log may wait (`delivery.log_confirm_s`)."""
    frames_per_s: int
    per_user: int
    """Connections of one user on this pod at most; 0 switches it off."""
