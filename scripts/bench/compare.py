"""Results against those of a baseline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from machine import BenchError
from results import Results, Summary
from scenario import Figure
from scenarios import SCENARIOS
from tables import number

__all__ = ["Comparison", "compare", "show"]

LEAST_NOISE = 0.05
"""Differences below it are none, however close the runs were together."""


class Comparison(NamedTuple):
    """One figure in both."""

    name: str
    before: float
    now: float
    ratio: float
    """Above 1 it got worse, whichever way is better."""
    noise: float
    """How far the ratio may be from 1 by chance: the wider of both ranges, to its median."""

    @property
    def worse(self) -> bool:
        """By more than its noise."""
        return self.ratio > 1 + self.noise


def compare(baseline: Results, results: Results) -> list[Comparison]:
    """Every figure that is in both. Raises `BenchError` if they are not of a kind."""
    for what in ("quick", "redis"):
        if baseline.about[what] != results.about[what]:
            raise BenchError(
                f"the baseline was measured with {what} = {baseline.about[what]}, "
                f"these results with {results.about[what]}"
            )
    return list(_pairs(baseline, results))


def _pairs(baseline: Results, results: Results) -> Iterator[Comparison]:
    for name, scenario in SCENARIOS.items():
        before, now = baseline.summaries(name), results.summaries(name)
        for figure in scenario.figures:
            if figure.name in before and figure.name in now:
                yield _one(f"{name}: {figure.name}", figure, before[figure.name], now[figure.name])


def _one(name: str, figure: Figure, before: Summary, now: Summary) -> Comparison:
    spread = (
        max((one.most - one.least) / abs(one.median) for one in (before, now) if one.median)
        if (before.median or now.median)
        else 0.0
    )
    old, new = (now.median, before.median) if figure.more_is_better else (before.median, now.median)
    ratio = new / old if old else float("inf") if new else 1.0
    return Comparison(name, before.median, now.median, ratio, max(LEAST_NOISE, spread))


def show(comparisons: list[Comparison], baseline: Results, results: Results) -> str:
    """A line for each, the worse ones marked."""
    lines = [f"against {baseline.about['revision']} of {baseline.about['time'][:10]}; above 1.00 is worse"]
    if baseline.about["machine"] != results.about["machine"]:
        lines.append("on ANOTHER MACHINE: only ratios to something else measured there can be compared")
    for one in comparisons:
        mark = "  WORSE" if one.worse else ""
        lines.append(
            f"{one.name:38} {number(one.before):>8} -> {number(one.now):>8}  "
            f"{one.ratio:5.2f} (noise {1 - one.noise:.2f} to {1 + one.noise:.2f}){mark}"
        )
    return "\n".join(lines)
