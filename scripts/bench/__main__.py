"""All figures of a pod in one command: `.venv/bin/python scripts/bench`.

Each scenario has a fresh Redis and fresh pods in each run, and the runs are interleaved. The pods are on one
processor; load and Redis on another, where there are two.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from http.client import HTTPException
from pathlib import Path

from compare import compare, show
from engines import KINDS, running_engine
from machine import LOAD, BenchError, pin, raise_file_limit
from redis.exceptions import RedisError
from results import ROOT, Results
from scenario import Bench, Scenario
from scenarios import SCENARIOS
from tables import number, table, write_tables

DOCS = ROOT / "docs"
NEEDED_FILES = 20_000
EXIT_WORSE = 1
EXIT_FAILED = 2


def main() -> int:
    """Run or read results; write what is asked for. 1: something is worse than the baseline; 2: it failed."""
    options = parse()
    failed = 0
    try:
        if options.results:
            results = Results.load(options.results)
        else:
            results, failed = measure(options)
        if options.docs:
            write_docs(results, options.docs)
        status = against(options.compare, results) if options.compare else 0
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return EXIT_FAILED
    return EXIT_FAILED if failed else status


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    by_default = [name for name, scenario in SCENARIOS.items() if scenario.by_default]
    parser.add_argument(
        "--only",
        type=scenario_names,
        default=by_default,
        metavar="NAME,NAME",
        help=f"of {', '.join(SCENARIOS)} (by default {', '.join(by_default)})",
    )
    parser.add_argument("--runs", type=int, default=5, help="of each scenario, interleaved (5)")
    parser.add_argument("--redis", choices=KINDS, default=KINDS[0], help="which Redis (embedded: a Valkey)")
    parser.add_argument("--quick", action="store_true", help="small numbers: whether it works, not how fast")
    parser.add_argument("--minutes", type=float, default=30, help="of churn (30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--results", type=Path, metavar="FILE", help="read results instead of measuring")
    parser.add_argument(
        "--docs",
        type=Path,
        nargs="?",
        const=DOCS,
        metavar="FOLDER",
        help="write the tables of FOLDER/performance.md and the plots (docs/)",
    )
    parser.add_argument("--compare", type=Path, metavar="FILE", help="results of before, to compare with")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("argument --runs: 1 at least")
    return options


def scenario_names(text: str) -> list[str]:
    """Checked names."""
    names = text.split(",")
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}"
        )
    return names


def measure(options: argparse.Namespace) -> tuple[Results, int]:
    """Run the scenarios in turn, so many times, telling what comes of each; how many of the runs failed."""
    if raise_file_limit() < NEEDED_FILES and not options.quick:
        raise BenchError(f"needs {NEEDED_FILES} open files (ulimit -Hn)")
    pin(os.getpid(), LOAD)
    with running_engine(options.redis) as engine:
        version = engine.version()
    results = Results.begin(redis=options.redis, redis_version=version, quick=options.quick)
    failed = 0
    for run in range(1, options.runs + 1):
        for name in options.only:
            failed += not one_run(results, SCENARIOS[name], run, options)
    for name in dict.fromkeys(run["scenario"] for run in results.runs):
        print(f"\n{name} ({results.seconds(name):.0f} s a run)\n{table(results, name)}", end="")
    return results, failed


def one_run(results: Results, scenario: Scenario, run: int, options: argparse.Namespace) -> bool:
    """A run of one scenario. One that fails is told, and the others go on."""
    print(f"run {run} of {options.runs}: {scenario.name} ...", end=" ", flush=True)
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, running_engine(options.redis) as engine:
            outcome = scenario.run(Bench(engine, folder, options.quick, options.minutes))
    except (BenchError, OSError, HTTPException, RedisError) as error:
        print(f"FAILED: {error}", flush=True)
        return False
    seconds = time.monotonic() - began
    results.add(scenario.name, run, seconds, outcome)
    if options.json:
        # Whatever comes after, what was measured is kept.
        results.save(options.json)
    shown = ", ".join(f"{name} {number(value)}" for name, value in outcome.figures.items())
    print(f"{seconds:.0f} s: {shown}", flush=True)
    return True


def write_docs(results: Results, folder: Path) -> None:
    """The tables of performance.md, and the plots."""
    try:
        from plots import write_plots  # noqa: PLC0415 - only they need matplotlib
    except ImportError:
        raise BenchError("the plots need matplotlib (pip install -e .[bench])") from None
    write_tables(results, folder / "performance.md")
    for path in write_plots(results, folder):
        print(f"wrote {path}")


def against(path: Path, results: Results) -> int:
    """Whether something is worse than in the results of `path`."""
    baseline = Results.load(path)
    comparisons = compare(baseline, results)
    print("\n" + show(comparisons, baseline, results))
    return EXIT_WORSE if any(one.worse for one in comparisons) else 0


if __name__ == "__main__":
    sys.exit(main())
