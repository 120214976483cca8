"""Exposures and events to test with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pushserver.exposure.event import Confirmed, Event, Proof, Source, build_events, connection_part

__all__ = ["an_event", "an_exposure", "exposure", "some_events"]


@dataclass(frozen=True)
class Pushed:
    """A message as it was pushed."""

    id: str
    source: Source
    queued_at: int
    pushed_at: int


def exposure(  # noqa: PLR0917 - in the order of the table's columns
    message_id: str,
    source: Source,
    queued_at: int,
    connection: bytes,
    pushed_at: int,
    confirmed_at: int,
    proof: Proof,
) -> Confirmed:
    """One exposure."""
    return Confirmed(connection, [Pushed(message_id, source, queued_at, pushed_at)], confirmed_at, proof)


def an_exposure(username: str = "alice", connection: str = "c-1", **changes: Any) -> Confirmed:
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
    return exposure(**{**fields, **changes})


def an_event(message_id: str = "m-1") -> Event:
    """An event of one exposure, as `build_events` makes it."""
    (event,) = build_events([an_exposure(message_id=message_id)], "pod-1")
    return event


def some_events(count: int, prefix: str = "m") -> list[Event]:
    """Events of one exposure each, of messages `PREFIX-0` and so on."""
    return [an_event(f"{prefix}-{number}") for number in range(count)]
