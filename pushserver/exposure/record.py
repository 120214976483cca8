"""What is kept of an exposure: one record each, and what was read and is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["CategorySet", "DeadLetter", "Record", "Stored", "Taken"]


class CategorySet(NamedTuple):
    """The categories that many records share: kept once, under a number made of them."""

    number: int
    """64 bits with a sign, the same for the same categories wherever it is computed."""
    text: str
    """As JSON, kinds in the order of `core.categories.KINDS`, values sorted."""
    pairs: tuple[tuple[str, str], ...]


class Record(NamedTuple):
    """One message reached one user on one connection. Times are Redis' in milliseconds."""

    event_id: str
    """A repeat has the same, another exposure never."""
    message_id: str
    username: str
    connection: str
    client_ip: str
    pod: str
    source: str
    proof: str
    queued_at: int
    pushed_at: int
    confirmed_at: int
    categories: CategorySet


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What was read and is no exposure event, with the reason."""

    data: bytes
    reason: str
    """A short class."""
    detail: str


class Stored(NamedTuple):
    """What a transaction added."""

    new: int
    """Records that were not there before; the others were, and were left as they are."""
    letters: int
    """Dead letters that were not there before."""


class Taken(NamedTuple):
    """What became of a batch of events."""

    exposures: int
    """In the events that were taken, repeats of an event within the batch left out."""
    new: int
    """Of these, not known before."""
    letters: Mapping[str, int]
    """Events that were refused, by reason."""
    confirmed_at: int
    """Time of the latest exposure among them, 0 without any."""
