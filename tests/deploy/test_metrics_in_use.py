"""What alerts and the dashboard ask for is what pods and consumers show."""

from __future__ import annotations

import json
import re
import urllib.request
from asyncio import to_thread
from typing import Any

import pytest
import yaml

from pushserver.core.metrics import Metrics
from pushserver.stores import faults
from tests.deploy.queries import named
from tests.deploy.settings_in_use import CONF, REPOSITORY
from tests.engines.redis_server import RedisServer
from tests.pod import running_pod, settings

OF_PROMETHEUS = {"job", "instance", "le"}


def queries() -> list[str]:
    """Of every alert and every panel."""
    groups = yaml.safe_load((CONF / "prometheus" / "rules.yaml").read_text())["groups"]
    board = json.loads((CONF / "grafana" / "dashboard.json").read_text())
    found = [rule["expr"] for group in groups for rule in group["rules"]]
    return found + [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]


@pytest.mark.gen_test(timeout=60)
async def test_every_metric_that_is_asked_for_is_shown_by_a_pod(redis_server: RedisServer) -> None:
    async with running_pod(settings(redis_server.url)) as pod:
        url = f"http://127.0.0.1:{pod.server.admin_port}/metrics"
        text = await to_thread(lambda: urllib.request.urlopen(url, timeout=5).read().decode())
    shown = {
        name + suffix
        for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE)
        for suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",))
    }
    asked = {metric for query in queries() for metric in named(query).metrics}
    assert len(asked) > 30
    assert asked <= shown


def label_names() -> dict[str, set[str]]:
    """Of every metric, by the name of its series."""
    collectors: dict[str, Any] = Metrics().registry._names_to_collectors
    return {name: set(collector._labelnames) for name, collector in collectors.items()}


@pytest.mark.parametrize("query", queries())
def test_every_label_that_is_asked_for_is_one_of_the_metric(query: str) -> None:
    known = label_names()
    asked = named(query)
    own = {metric: known.get(metric, set()) for metric in asked.metrics}
    for metric, labels in asked.metrics.items():
        assert labels.keys() <= own[metric] | OF_PROMETHEUS, metric
    for names in own.values():
        assert asked.grouped <= names | OF_PROMETHEUS


def values_asked_for(label: str) -> set[str]:
    matchers = (labels for query in queries() for labels in named(query).metrics.values())
    return {value for labels in matchers for value in labels.get(label, ()) if not value.startswith("$")}


def test_kinds_of_errors_are_those_that_there_are() -> None:
    kinds = {kind for *_, kind in faults._TABLE} | {kind for _, kind in faults._BY_CODE.values()}
    assert values_asked_for("kind") <= kinds
    assert values_asked_for("job") <= {"pushserver", "pushserver-consumer"}
    assert all(re.fullmatch("[1-5]xx", status) for status in values_asked_for("status"))


@pytest.mark.parametrize("label", ["result", "where"])
def test_values_are_those_that_the_program_gives(label: str) -> None:
    """Each is written out somewhere in it."""
    source = "".join(path.read_text() for path in (REPOSITORY / "pushserver").rglob("*.py"))
    assert values_asked_for(label)
    assert [value for value in values_asked_for(label) if f'"{value}"' not in source] == []
