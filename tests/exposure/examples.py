"""Exposures and events to test with."""

from __future__ import annotations

from typing import Any

from pushserver.exposure.event import Event, Exposure, build_events, connection_part

__all__ = ["an_event", "an_exposure", "some_events"]


def an_exposure(username: str = "alice", connection: str = "c-1", **changes: Any) -> Exposure:
    """One exposure of message m-1, with `changes` to its fields."""
    part = connection_part(username, connection, "203.0.113.9", {"vip": ("3",), "hall": ("a", "b")})
    fields: dict[str, Any] = {
        "message_id": "m-1",
        "source": "live",
        "queued_at": 1_700_000_000_000,
        "connection": part,
        "pushed_at": 1_700_000_000_010,
        "confirmed_at": 1_700_000_000_020,
        "proof": "pong",
    }
    return Exposure(**{**fields, **changes})


def an_event(message_id: str = "m-1") -> Event:
    """An event of one exposure, as `build_events` makes it."""
    (event,) = build_events([an_exposure(message_id=message_id)], "pod-1")
    return event


def some_events(count: int, prefix: str = "m") -> list[Event]:
    """Events of one exposure each, of messages `PREFIX-0` and so on."""
    return [an_event(f"{prefix}-{number}") for number in range(count)]
