"""Plots of the results, as SVG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from results import Results
from scenarios import SCENARIOS

mpl.use("svg")

from matplotlib import pyplot

__all__ = ["write_plots"]

# Text stays text, and the same results make the same bytes.
mpl.rcParams.update(
    {"svg.fonttype": "none", "svg.hashsalt": "pushserver", "figure.constrained_layout.use": True}
)
SIZE = (7, 3.6)


def write_plots(results: Results, folder: Path) -> list[Path]:
    """One file for each plot whose scenario ran; their paths."""
    written = []
    for name, draw in PLOTS.items():
        figure, axes = pyplot.subplots(figsize=SIZE)
        if draw(results, axes):
            path = folder / f"bench-{name}.svg"
            figure.savefig(path, metadata={"Date": None})
            written.append(path)
        pyplot.close(figure)
    return written


def targets(results: Results, axes: Any) -> bool:
    """Each figure that has a target, as a share of it, with its range."""
    rows = []
    for name, scenario in SCENARIOS.items():
        summaries = results.summaries(name)
        rows += [
            (f"{name}: {figure.name}", [value / figure.target for value in summaries[figure.name]])
            for figure in scenario.figures
            if figure.target and figure.name in summaries
        ]
    rows.reverse()
    for at, (_, (middle, least, most)) in enumerate(rows):
        axes.barh(at, middle, color="tab:green" if middle <= 1 else "tab:red", alpha=0.7)
        axes.plot([least, most], [at, at], color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=7)
    axes.axvline(1, color="black", linestyle="--", linewidth=1)
    axes.set_xlabel("measured / target (median and range)")
    axes.figure.set_size_inches(SIZE[0], 1 + 0.24 * len(rows))
    return bool(rows)


def fanout(results: Results, axes: Any) -> bool:
    """How many have a broadcast after how long."""
    series = results.series("fanout")
    for key, label in {"limit_latency_ms": "limit (a loop of write)", "latency_ms": "pod"}.items():
        if key in series:
            axes.plot(series[key], range(len(series[key])), label=label)
    axes.set(xlabel="ms since the publish", ylabel="% of the connections have it", xlim=(0, None))
    axes.legend()
    return bool(series)


def connect(results: Results, axes: Any) -> bool:
    """What a connect costs, by how many there are."""
    points = results.series("growth").get("connect_cpu_us", [])
    axes.plot([count for count, _ in points], [cost for _, cost in points], marker=".")
    axes.set(xlabel="connections open", ylabel="us of CPU for a connect", ylim=(0, None))
    return bool(points)


def publish(results: Results, axes: Any) -> bool:
    """Publish to frame."""
    curve = results.series("publish").get("latency_ms", [])
    axes.plot(curve, range(len(curve)))
    axes.set(xlabel="ms from publish to frame", ylabel="% of the messages", xscale="log")
    return bool(curve)


def storm(results: Results, axes: Any) -> bool:
    """How many are live after the kill."""
    points = results.series("storm").get("live", [])
    axes.plot([at for at, _ in points], [count for _, count in points])
    axes.set(xlabel="s since the kill", ylabel="clients live", xlim=(0, None), ylim=(0, None))
    return bool(points)


def churn(results: Results, axes: Any) -> bool:
    """What is kept while clients come and go, to its first value."""
    samples = results.series("churn").get("samples", [])
    for column, label in enumerate(("resident memory", "descriptors", "tasks", "keys in Redis"), 1):
        if samples:
            axes.plot(
                [one[0] / 60 for one in samples],
                [one[column] / (samples[0][column] or 1) for one in samples],
                label=label,
            )
    axes.set(xlabel="minutes", ylabel="to the first cycle", ylim=(0, None))
    if samples:
        axes.legend()
    return bool(samples)


PLOTS: dict[str, Callable[[Results, Any], bool]] = {
    "targets": targets,
    "fanout": fanout,
    "connect": connect,
    "publish": publish,
    "storm": storm,
    "churn": churn,
}
