"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

__all__ = ["print_table", "time_text"]


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of the same number of cells, each column as wide as it has to be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def time_text(milliseconds: int) -> str:
    """A time in milliseconds since 1970 as ISO 8601, in UTC, to the second; as a number beyond year 9999."""
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError):
        return str(milliseconds)
    return moment.isoformat(" ", "seconds").removesuffix("+00:00") + "Z"
