"""What a query of Prometheus names, and the program that checks one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

__all__ = ["Named", "named", "promtool"]

_SERIES = re.compile(r"\b(pushserver_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_GROUPED = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


class Named(NamedTuple):
    """What a query needs to be there."""

    metrics: dict[str, dict[str, list[str]]]
    """Labels asked for by metric, and the values of each."""
    grouped: set[str]
    """Labels that it groups by."""


def named(query: str) -> Named:
    """Every metric, label and value in `query`."""
    metrics: dict[str, dict[str, list[str]]] = {}
    for metric, matchers in _SERIES.findall(query):
        labels = metrics.setdefault(metric, {})
        for label, value in _MATCHER.findall(matchers):
            labels.setdefault(label, []).extend(value.split("|"))
    grouped = {label.strip() for labels in _GROUPED.findall(query) for label in labels.split(",")}
    return Named(metrics, grouped)


def promtool(*arguments: str | Path) -> str:
    """Run Prometheus' own tool; its output. Fails the test with what it finds wrong."""
    program = shutil.which("promtool")
    if program is None:
        reason = "needs promtool (apt install prometheus)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
