"""The report as one page for a browser: nothing is loaded from anywhere, and no script is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

from pushserver import __version__
from pushserver.database.reading import DELAYS_MS, Figures, Filter, Reading
from pushserver.report.charts import Bar, columns, rows
from pushserver.report.tables import duration, moment

__all__ = ["Page", "as_html", "read_page"]

TOP = 12
"""Bars of a chart by name."""

BUCKETS = 60
"""Bars of the chart over time, at most."""

_STEPS_MS = tuple(
    minutes * 60_000 for minutes in (1, 5, 15, 60, 180, 360, 720, 1440, 1440 * 7, 1440 * 30, 1440 * 365)
)


@dataclass(frozen=True, slots=True)
class Page:
    """What the page shows, as it was read."""

    which: Filter
    totals: Figures
    span: tuple[int, int] | None
    bucket_ms: int
    over_time: Sequence[Figures]
    delays: Sequence[int]
    by: dict[str, Sequence[Figures]]


def read_page(reading: Reading, which: Filter) -> Page:
    """Everything that the page shows. Raises `DatabaseError`."""
    span = reading.span(which)
    bucket_ms = _bucket(span)
    return Page(
        which,
        reading.totals(which),
        span,
        bucket_ms,
        reading.figures("time", which, bucket_ms=bucket_ms, limit=BUCKETS + 1),
        reading.delays(which),
        {by: reading.figures(by, which, limit=TOP) for by in ("message", "category", "pod", "source")},
    )


def as_html(page: Page, now_ms: int) -> str:
    """The page; every name in it is escaped."""
    template = Template((files("pushserver.report") / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        about=escape(_about(page)),
        totals="".join(_totals(page.totals)),
        charts="".join(_charts(page)),
        now=moment(now_ms),
        version=__version__,
    )


def _about(page: Page) -> str:
    parts = [f"{moment(page.span[0])} to {moment(page.span[1])} UTC" if page.span else "Nothing yet"]
    if page.which.message:
        parts.append(f"message {page.which.message}")
    if page.which.category:
        parts.append("category " + "=".join(page.which.category))
    return ", ".join(parts)


def _totals(totals: Figures) -> list[str]:
    pong = f"{totals.pong / totals.delivered:.0%}" if totals.delivered else "-"
    shown = (
        (_count(totals.delivered), "exposures"),
        (_count(totals.users), "users reached"),
        (pong, "confirmed by pong, the rest by ack"),
        (duration(totals.confirm_median), "push to confirm, median"),
        (duration(totals.confirm_p95), "push to confirm, 95% within"),
        (duration(totals.wait_median), "publish to push, median"),
    )
    return [
        f'<div class="card"><div class="figure">{figure}</div><div class="name">{name}</div></div>'
        for figure, name in shown
    ]


def _charts(page: Page) -> list[str]:
    return [
        _card("Deliveries over time", _over_time(page), "wide", f"A bar is {duration(page.bucket_ms)}."),
        _card("From push to confirm", _delays(page.delays)),
        _card("Top messages", _by_name(page.by["message"])),
        _card(
            "By category", _by_name(page.by["category"]), note="A user counts in each of their categories."
        ),
        f'<div class="charts">{_card("By source", _by_name(page.by["source"]))}'
        f"{_card('By pod', _by_name(page.by['pod']))}</div>",
    ]


def _card(title: str, chart: str, kind: str = "", note: str = "") -> str:
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<div class="card {kind}"><h2>{escape(title)}</h2>{chart}{below}</div>'


def _over_time(page: Page) -> str:
    """Every bucket from the first to the last, the empty ones too."""
    if not page.over_time:
        return columns([], "Deliveries over time")
    counts = {int(one.group): one for one in page.over_time}
    bars = []
    for start in range(min(counts), max(counts) + 1, page.bucket_ms):
        one = counts.get(start)
        delivered, users = (one.delivered, one.users) if one else (0, 0)
        label = moment(start)[5:10] if page.bucket_ms >= _STEPS_MS[7] else moment(start)[5:]
        hint = f"{moment(start)} UTC: {_count(delivered)} exposures, {_count(users)} users"
        bars.append(Bar(label, delivered, hint=hint))
    return columns(bars, "Deliveries over time")


def _delays(counts: Sequence[int]) -> str:
    names = [*(f"< {duration(bound)}" for bound in DELAYS_MS), f"{duration(DELAYS_MS[-1])} +"]
    total = sum(counts) or 1
    bars = [
        Bar(name, count, f"{count / total:.0%}", f"{name}: {_count(count)} exposures")
        for name, count in zip(names, counts, strict=True)
    ]
    return rows(bars, "From push to confirm")


def _by_name(groups: Sequence[Figures]) -> str:
    bars = [Bar(one.group, one.delivered, _count(one.delivered), _said(one)) for one in groups]
    return rows(bars, "Exposures")


def _said(one: Figures) -> str:
    delays = f"confirmed in {duration(one.confirm_median)} (median), {duration(one.confirm_p95)} (95 %)"
    return f"{one.group}: {_count(one.delivered)} exposures, {_count(one.users)} users, {delays}"


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _bucket(span: tuple[int, int] | None) -> int:
    length = span[1] - span[0] if span else 0
    return next((step for step in _STEPS_MS if length / step < BUCKETS), _STEPS_MS[-1])
