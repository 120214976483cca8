"""`conf/prometheus/rules.yaml`, by Prometheus' own tool: every alert fires when it should, and not before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.deploy.queries import promtool
from tests.deploy.settings_in_use import CONF, REPOSITORY

RULES = CONF / "prometheus" / "rules.yaml"
POD = 'job="pushserver",instance="a"'
CONSUMER = 'job="pushserver-consumer",instance="c"'

Series = dict[str, str]
"""Values by series, one a minute, in the notation of promtool: `0x5 1x20` is six times 0, then 21 times 1."""


class Story(NamedTuple):
    """When an alert fires, and something like it that is no reason to."""

    alarming: Series
    labels: dict[str, str]
    """Beside its severity."""
    harmless: Series
    at: str = "20m"


def pod(metric: str, values: str, labels: str = "") -> Series:
    return {f"pushserver_{metric}{{{POD}{',' if labels else ''}{labels}}}": values}


def consumer(metric: str, values: str, labels: str = "") -> Series:
    return {f"pushserver_{metric}{{{CONSUMER}{',' if labels else ''}{labels}}}": values}


def histogram(metric: str, slow: str) -> Series:
    """100 observations a minute; `slow` of them, as text of a step, beyond a second."""
    total = {f'pushserver_{metric}_bucket{{{POD},le="{le}"}}': "0+100x30" for le in ("2.5", "+Inf")}
    return total | {f'pushserver_{metric}_bucket{{{POD},le="0.05"}}': f"0+{slow}x30"}


def handshakes(step: int, result: str) -> Series:
    """`step` of them a minute."""
    return pod("handshakes_total", f"0+{step}x40", f'result="{result}"')


def calls(step: int, status: str) -> Series:
    return pod("api_requests_total", f"0+{step}x40", f'call="publish",status="{status}"')


def counter(metric: str, labels: dict[str, str], series: str = "") -> Story:
    """Fires as soon as it grows."""
    return Story(pod(metric, GROWS, series), labels, pod(metric, STANDS, series))


JOB = {"job": "pushserver"}
CONSUMERS = {"job": "pushserver-consumer"}
ONE = {**JOB, "instance": "a"}
UP, DOWN, GROWS, STANDS = "1x30", "0x30", "0+1x30", "7x30"

STORIES = {
    "PushserverDown": Story({f"up{{{POD}}}": DOWN}, ONE, {f"up{{{CONSUMER}}}": DOWN, f"up{{{POD}}}": UP}),
    "PushserverAllDown": Story(
        {f"up{{{POD}}}": DOWN}, {}, {f"up{{{POD}}}": DOWN, 'up{job="pushserver",instance="b"}': UP}
    ),
    "PushserverPodDied": counter("pods_reaped_total", JOB),
    "PushserverLoopSlow": Story(
        histogram("loop_lag_seconds", "90"), ONE, histogram("loop_lag_seconds", "100")
    ),
    "PushserverTaskFailed": counter("task_failures_total", ONE),
    "PushserverRedisAway": Story(pod("redis_away", UP), ONE, pod("redis_away", DOWN)),
    "PushserverRedisRefuses": Story(
        pod("redis_errors_total", GROWS, 'kind="oom"'),
        {**JOB, "kind": "oom"},
        pod("redis_errors_total", GROWS, 'kind="moved"'),
    ),
    "PushserverRedisSlow": Story(
        histogram("redis_round_trip_seconds", "90"), ONE, histogram("redis_round_trip_seconds", "100")
    ),
    "PushserverRedisNoAof": Story(pod("redis_aof", DOWN), JOB, pod("redis_aof", UP)),
    "PushserverLeaseLapsed": counter("lease_lapses_total", ONE),
    "PushserverPresenceBehind": Story(
        pod("presence_unflushed", STANDS), ONE, pod("presence_unflushed", "0 9x17 0 9x10")
    ),
    "PushserverConnectionsGone": Story(
        pod("connections", "1000x15 400x15"), JOB, pod("connections", "1000x15 600x15")
    ),
    "PushserverFull": Story(handshakes(1, "full"), ONE, handshakes(1, "101")),
    "PushserverHandshakesRefused": Story(
        handshakes(20, "busy") | handshakes(80, "101"), JOB, handshakes(20, "origin") | handshakes(80, "101")
    ),
    "PushserverTokensRefused": Story(
        handshakes(200, "not_authenticated") | handshakes(80, "101"),
        JOB,
        handshakes(20, "not_authenticated"),
        at="30m",
    ),
    "PushserverApiFails": Story(
        calls(10, "5xx") | calls(90, "2xx"), JOB, calls(10, "4xx") | calls(4, "5xx") | calls(86, "2xx")
    ),
    "PushserverEvicts": counter("evicted_total", JOB),
    "PushserverPoison": Story(
        pod("parked_total", GROWS) | pod("invalid_content_total", STANDS),
        JOB,
        pod("parked_total", STANDS) | pod("invalid_content_total", STANDS),
    ),
    "PushserverSettlesBehind": Story(
        pod("settle_waiting", "5000x30"), ONE, pod("settle_waiting", "5000x17 0 5000x10")
    ),
    "PushserverFeedGaps": counter("feed_gaps_total", JOB),
    "PushserverExposuresSpooled": Story(
        pod("exposures_total", GROWS, 'where="spooled"'), JOB, pod("exposures_total", GROWS, 'where="moved"')
    ),
    "PushserverExposuresDropped": counter("exposure_dropped_total", JOB),
    "PushserverExposuresAside": counter("exposure_aside_total", JOB),
    "PushserverReloadRefused": counter("reloads_total", JOB, 'result="refused"'),
    "PushserverConsumerDown": Story({f"up{{{CONSUMER}}}": DOWN}, {}, {f"up{{{CONSUMER}}}": UP}),
    "PushserverConsumerBehind": Story(
        consumer("consume_lag_seconds", "400x30"), CONSUMERS, pod("consume_lag_seconds", "400x30")
    ),
    "PushserverConsumerFails": Story(
        consumer("consume_failures_total", GROWS, 'where="database",kind="away"'),
        {**CONSUMERS, "where": "database", "kind": "away"},
        consumer("consume_failures_total", STANDS, 'where="database",kind="away"'),
    ),
    "PushserverDeadLetters": Story(
        consumer("consume_dead_letters_total", GROWS, 'reason="json"'),
        {**CONSUMERS, "reason": "json"},
        consumer("consume_dead_letters_total", STANDS, 'reason="json"'),
    ),
}


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def case(name: str, rule: dict[str, Any], story: Story, *, fires: bool) -> dict[str, Any]:
    """A test as promtool has them."""
    alarm = {"exp_labels": {**rule["labels"], **story.labels}, "exp_annotations": rule["annotations"]}
    series = story.alarming if fires else story.harmless
    return {
        "name": f"{name} {'fires' if fires else 'does not fire'}",
        "interval": "1m",
        "input_series": [{"series": labels, "values": values} for labels, values in series.items()],
        "alert_rule_test": [
            {"eval_time": story.at, "alertname": name, "exp_alerts": [alarm] if fires else []}
        ],
    }


def test_prometheus_reads_the_rules() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", RULES)


def test_prometheus_is_told_of_the_jobs_that_the_rules_ask_for() -> None:
    promtool("check", "config", "--syntax-only", RULES.with_name("prometheus.yaml"))
    told = yaml.safe_load(RULES.with_name("prometheus.yaml").read_text())
    assert told["rule_files"] == [RULES.name]
    assert {job["job_name"] for job in told["scrape_configs"]} == {"pushserver", "pushserver-consumer"}


def test_every_alert_has_its_story() -> None:
    assert STORIES.keys() == alerts().keys()


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    rules = alerts()
    tests = [
        case(it, rules[it], story, fires=it_does)
        for it, story in STORIES.items()
        for it_does in (True, False)
    ]
    suite = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "rules_test.yaml").write_text(yaml.safe_dump(suite))
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "rules_test.yaml")


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_it_is_and_where_to_read_on(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    file, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^### (\w+)$", (REPOSITORY / file).read_text(), re.MULTILINE)
    assert anchor == name.lower()
    assert name in headings


def test_no_alert_is_explained_that_is_none() -> None:
    text = (REPOSITORY / "docs" / "alerts.md").read_text()
    assert set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) == alerts().keys()
