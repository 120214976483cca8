"""Charts as inline SVG: bars, lying and standing. No script; colours come from the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Bar", "columns", "rows"]

WIDTH = 480
"""Of the drawing, in its own units: narrow, so that its letters stay readable on a telephone."""
ROW = 26
LABEL = 158
"""Room for the names, which end at their bars and are cut after `LABEL_CHARS`."""
LABEL_CHARS = 18
VALUE = 76
WIDE = 860
HEIGHT = 210
FOOT = 22


class Bar(NamedTuple):
    """One bar: what it is called, how long it is, what is written at it, and what it says when pointed at."""

    label: str
    value: float
    text: str = ""
    hint: str = ""


def rows(bars: Sequence[Bar], title: str) -> str:
    """Lying bars, a line each, for names."""
    most = max((bar.value for bar in bars), default=0) or 1
    room = WIDTH - LABEL - VALUE
    parts = []
    for number, bar in enumerate(bars):
        top = number * ROW
        length = bar.value / most * room
        parts.append(
            f"<g>{_hint(bar)}"
            f'<text x="{LABEL - 8}" y="{top + 17}" class="end">{escape(_short(bar.label))}</text>'
            f'<rect x="{LABEL}" y="{top + 4}" width="{length:.1f}" height="{ROW - 8}" rx="3"/>'
            f'<text x="{LABEL + length + 6:.1f}" y="{top + 17}" class="value">{escape(bar.text)}</text></g>'
        )
    return _svg(parts, max(1, len(bars)) * ROW, title)


def columns(bars: Sequence[Bar], title: str, *, labels: int = 6) -> str:
    """Standing bars for an order of things (time, size); about `labels` of them are named below."""
    most = max((bar.value for bar in bars), default=0) or 1
    step = WIDE / max(1, len(bars))
    every = max(1, -(-len(bars) // labels))
    plot = HEIGHT - FOOT - 16
    parts = [f'<line x1="0" x2="{WIDE}" y1="{HEIGHT - FOOT}" y2="{HEIGHT - FOOT}"/>']
    for number, bar in enumerate(bars):
        height = bar.value / most * plot
        left = number * step
        parts.append(
            f'<g>{_hint(bar)}<rect x="{left + step * 0.08:.2f}" y="{HEIGHT - FOOT - height:.2f}" '
            f'width="{step * 0.84:.2f}" height="{height:.2f}" rx="{min(3.0, step * 0.2):.2f}"/>'
        )
        parts.append("</g>")
        # None at the very end, where it would stand beyond the edge.
        if number % every == 0 and left < WIDE * 0.88:
            parts.append(f'<text x="{left:.1f}" y="{HEIGHT - 4}">{escape(bar.label)}</text>')
    return _svg(parts, HEIGHT, title, WIDE)


def _hint(bar: Bar) -> str:
    return f"<title>{escape(bar.hint or f'{bar.label}: {bar.text}')}</title>"


def _short(label: str) -> str:
    return label if len(label) <= LABEL_CHARS else f"{label[: LABEL_CHARS - 1]}…"


def _svg(parts: Sequence[str], height: int, title: str, width: int = WIDTH) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
