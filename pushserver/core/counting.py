"""Numbers of things in sentences."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, noun: str) -> str:
    """`1 user`, `2 users`: for nouns that take an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
