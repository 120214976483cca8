"""Numbers of things, and a few of many, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["SHOWN", "counted", "some_of"]

SHOWN = 10
"""Names that are told at most of what there may be many of."""


def counted(number: int, noun: str) -> str:
    """`1 user`, `2 users`: for nouns that take an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def some_of(names: Sequence[str], count: int) -> str:
    """The first of `count` names, and how many more there are."""
    shown = names[:SHOWN]
    rest = f" and {count - len(shown)} more" if count > len(shown) else ""
    return ", ".join(shown) + rest
