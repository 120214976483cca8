"""`conf/grafana/dashboard.json`, read without Grafana."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.queries import promtool
from tests.deploy.settings_in_use import CONF

BOARD: dict[str, Any] = json.loads((CONF / "grafana" / "dashboard.json").read_text())
PANELS: list[dict[str, Any]] = BOARD["panels"]
WITH_QUERIES = [panel for panel in PANELS if panel["type"] != "row"]
BUILT_IN = {"__rate_interval", "__all"}


def test_panels_have_numbers_of_their_own_and_lie_beside_each_other() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, two in combinations([panel["gridPos"] for panel in PANELS], 2):
        apart_x = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
        apart_y = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
        assert apart_x or apart_y, (one, two)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)


def test_every_variable_that_is_used_is_defined() -> None:
    used = set(re.findall(r"\$\{?(\w+)\}?", json.dumps(BOARD)))
    assert used - BUILT_IN <= {variable["name"] for variable in BOARD["templating"]["list"]}


@pytest.mark.parametrize("panel", WITH_QUERIES, ids=lambda panel: panel["title"])
def test_a_panel_asks_its_data_source_and_says_in_what_unit(panel: dict[str, Any]) -> None:
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    queries = [target["expr"] for panel in WITH_QUERIES for target in panel["targets"]]
    filled = [re.sub(r"\$__rate_interval", "5m", query).replace("$", "") for query in queries]
    rules = [{"record": f"panel:query:{number}", "expr": query} for number, query in enumerate(filled)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", file)
