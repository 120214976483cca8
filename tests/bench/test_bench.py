"""The benchmark's command, with numbers that are too small to mean anything."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "scripts" / "bench"
SCENARIOS = {"fanout", "connect", "memory", "publish", "catchup", "storm", "growth", "coalescing"}
PLOTS = {"targets", "fanout", "connect", "publish", "storm"}
MARK = re.compile(r"<!-- bench:([a-z]+) -->\n(.*?)<!-- /bench -->", re.DOTALL)


def bench(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, BENCH, *arguments]
    environ = {**os.environ, **environ}
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the results of a quick run, and the documentation written from them."""
    folder = tmp_path_factory.mktemp("bench")
    (folder / "performance.md").write_text((ROOT / "docs" / "performance.md").read_text())
    done = bench("--quick", "--runs", "1", "--json", folder / "results.json", "--docs", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def results(folder: Path) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return stored


def test_every_scenario_has_all_its_figures(measured: Path) -> None:
    runs = {run["scenario"]: run["figures"] for run in results(measured)["runs"]}
    assert set(runs) == SCENARIOS
    assert all(math.isfinite(value) for figures in runs.values() for value in figures.values())
    tables = dict(MARK.findall((measured / "performance.md").read_text()))
    for scenario, figures in runs.items():
        assert tables[scenario].count("\n") == 2 + len(figures), scenario


def test_the_results_say_what_they_were_measured_on(measured: Path) -> None:
    about = results(measured)["about"]
    assert about["quick"]
    assert about["redis"] == "embedded"
    assert about["machine"]["processors"] >= 1
    assert about["versions"]["redis-server"].startswith("valkey")


def test_the_tables_are_written_between_their_marks_and_the_rest_stays(measured: Path) -> None:
    before = (ROOT / "docs" / "performance.md").read_text()
    after = (measured / "performance.md").read_text()
    assert MARK.sub("", after) == MARK.sub("", before)
    told, was = dict(MARK.findall(after)), dict(MARK.findall(before))
    assert all(told[name] != was[name] for name in SCENARIOS)
    assert all(told[name] == was[name] for name in was if name not in {*SCENARIOS, "about"})


def test_the_plots_are_drawn(measured: Path) -> None:
    drawn = {path.stem.removeprefix("bench-"): path.read_text() for path in measured.glob("bench-*.svg")}
    assert set(drawn) == PLOTS
    assert all("</svg>" in text for text in drawn.values())


def test_results_are_no_worse_than_themselves(measured: Path) -> None:
    stored = measured / "results.json"
    done = bench("--results", stored, "--compare", stored)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WORSE" not in done.stdout


def test_what_is_worse_than_its_noise_is_named_and_the_status_says_so(measured: Path) -> None:
    stored = results(measured)
    for run in stored["runs"]:
        if run["scenario"] == "catchup":
            run["figures"]["cpu_us"] /= 2
    (measured / "baseline.json").write_text(json.dumps(stored))
    done = bench("--results", measured / "results.json", "--compare", measured / "baseline.json")
    assert done.returncode == 1, done.stdout + done.stderr
    [line] = [line for line in done.stdout.splitlines() if "WORSE" in line]
    assert line.startswith("catchup: cpu_us ")


def test_a_scenario_that_does_not_exist_is_named() -> None:
    done = bench("--only", "fanout,tea")
    assert (done.returncode, "no scenario tea" in done.stderr) == (2, True)


def test_a_file_that_holds_no_results_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    done = bench("--results", tmp_path / "x.json")
    assert (done.returncode, "x.json holds no results" in done.stderr) == (2, True)


def test_a_redis_that_is_not_here_is_named() -> None:
    done = bench("--quick", "--only", "memory", "--redis", "server", PATH="")
    assert (done.returncode, "needs redis-server" in done.stderr) == (2, True)


def test_a_scenario_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    stored = tmp_path / "results.json"
    done = bench(
        *("--quick", "--runs", "1", "--only", "sinks,commands", "--json", stored),
        **{"PATH": "", "PUBSUB_EMULATOR_BIN": "", "JAVA_HOME": "", "HOME": str(tmp_path)},
    )
    assert (done.returncode, "FAILED: needs Google's Pub/Sub emulator" in done.stdout) == (2, True)
    assert {run["scenario"] for run in results(tmp_path)["runs"]} == {"commands"}
