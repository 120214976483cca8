"""Tells linear cost from quadratic, however slow the machine."""

from __future__ import annotations

from collections.abc import Callable

from tests.cpu_time import cpu_seconds

__all__ = ["is_linear"]

SMALL_BYTES = 8 * 1024
LARGE_BYTES = 8 * SMALL_BYTES


def is_linear(action: Callable[[str], object], pattern: str) -> bool:
    """Whether eight times the text, `pattern` over and over up to 64 KiB, costs about eight times as much.

    A quadratic action costs 64 times as much; three times what is fair is allowed for noise.
    """
    return _cpu_seconds(action, pattern, LARGE_BYTES) < 3 * 8 * _cpu_seconds(action, pattern, SMALL_BYTES)


def _cpu_seconds(action: Callable[[str], object], pattern: str, size: int) -> float:
    text = pattern * (size // len(pattern))
    return min(cpu_seconds(lambda: action(text)) for _ in range(5))
