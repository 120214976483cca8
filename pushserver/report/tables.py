"""The report as text: a table for a terminal, CSV for a spreadsheet, JSON for a program."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from pushserver.core.jsontext import dump
from pushserver.database.reading import Figures
from pushserver.logs import printable

__all__ = ["as_csv", "as_json", "as_table", "duration", "moment"]

_HEADS = (
    "delivered", "pong", "ack", "users", "confirm median", "95 %", "wait median", "95 %",
)  # fmt: skip
MAX_NAME = 48
"""Characters of a group's name in a table."""


def as_table(by: str, groups: Sequence[Figures], totals: Figures) -> str:
    """Aligned columns, the totals last. Confirm is from push to confirm, wait from publish to push."""
    rows = [(by, *_HEADS), *(_cells(_name(by, one.group), one) for one in groups), _cells("all", totals)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [_line(row, widths) for row in rows]
    rule = "-" * len(lines[0])
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def as_csv(by: str, groups: Sequence[Figures]) -> str:
    """A line of names, then a line for each group; delays in milliseconds, times as ISO 8601."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [name for name in Figures.__slots__ if name != "group"]
    writer.writerow([by, *(f"{name}_ms" if _is_delay(name) else name for name in names)])
    for one in groups:
        writer.writerow([_inert(_name(by, one.group)), *(getattr(one, name) for name in names)])
    return text.getvalue()


def as_json(by: str, groups: Sequence[Figures], totals: Figures) -> str:
    """`{"by", "groups", "totals"}`; delays in milliseconds, null where there is no exposure."""
    named = [{**asdict(one), "group": _name(by, one.group)} for one in groups]
    return dump({"by": by, "groups": named, "totals": asdict(totals)})


def duration(milliseconds: int | None) -> str:
    """For people: `12 ms`, `3.4 s`, `2 h 5 m`, `3 d 4 h`."""
    if milliseconds is None:
        return "-"
    if abs(milliseconds) < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} m"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} m" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def moment(milliseconds: int) -> str:
    """Date and time in UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M")


def _name(by: str, group: str) -> str:
    return moment(int(group)) + " UTC" if by == "time" else group


def _cells(name: str, one: Figures) -> tuple[str, ...]:
    counts = (one.delivered, one.pong, one.ack, one.users)
    delays = (one.confirm_median, one.confirm_p95, one.wait_median, one.wait_p95)
    name = printable(name)
    short = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
    return (short, *(f"{count:,}".replace(",", " ") for count in counts), *map(duration, delays))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first = row[0].ljust(widths[0])
    return "  ".join([first, *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])


def _is_delay(name: str) -> bool:
    return name.startswith(("confirm", "wait"))


def _inert(text: str) -> str:
    """A name that a spreadsheet would take for a formula, as a text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
