"""Tables of the results, for people: on the terminal, and in the documentation between markers.

<!-- bench:fanout -->
...written here...
<!-- /bench -->
"""

from __future__ import annotations

import re
from pathlib import Path

from machine import BenchError
from results import Results, Summary
from scenario import Figure
from scenarios import SCENARIOS

__all__ = ["number", "table", "write_tables"]

MARKED = re.compile(r"<!-- bench:([a-z]+) -->\n.*?<!-- /bench -->", re.DOTALL)
ABOUT = "about"
"""The mark of what the figures were measured on."""


def write_tables(results: Results, path: Path) -> None:
    """Put the tables of what ran between their markers; others stay. Raises `BenchError` on unknown ones."""

    def written(found: re.Match[str]) -> str:
        name = found[1]
        if name == ABOUT:
            text = about(results)
        elif name in SCENARIOS:
            text = table(results, name)
        else:
            raise BenchError(f"{path} has a mark for {name}, and there is no such scenario")
        return f"<!-- bench:{name} -->\n{text}<!-- /bench -->" if text else found[0]

    path.write_text(MARKED.sub(written, path.read_text()))


def about(results: Results) -> str:
    """One paragraph; empty if nothing ran."""
    machine, versions = results.about["machine"], results.about["versions"]
    names = dict.fromkeys(run["scenario"] for run in results.runs)
    if not names:
        return ""
    lines = [
        f"Measured at {results.about['revision']}{' and changes' if results.about['changed'] else ''}, "
        f"{results.about['time'][:10]}, medians of {results.count(names)} runs:",
        f"{machine['processors']} processors ({machine['processor']}), {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, Python {versions['python']},",
        f"Tornado {versions['tornado']}, {versions['redis-server']} ({results.about['redis']}).",
    ]
    return "\n".join(lines) + "\n"


def table(results: Results, name: str) -> str:
    """A scenario's figures; empty if it did not run."""
    summaries = results.summaries(name)
    if not summaries:
        return ""
    rows = ["| what | median | range | target |", "| --- | ---: | --- | ---: |"]
    for figure in SCENARIOS[name].figures:
        if figure.name in summaries:
            rows.append(_row(figure, summaries[figure.name]))
    return "\n".join(rows) + "\n"


def _row(figure: Figure, summary: Summary) -> str:
    unit = f" {figure.unit}" if figure.unit else ""
    aim = f"{number(figure.target)}{unit}" if figure.target is not None else ""
    spread = f"{number(summary.least)} to {number(summary.most)}"
    return f"| {figure.text} | {number(summary.median)}{unit} | {spread} | {aim} |"


def number(value: float) -> str:
    """Three digits that count; large ones in full, by thousands."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
