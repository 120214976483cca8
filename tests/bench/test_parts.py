"""What the benchmark counts and reckons with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest

MESSAGE = b'{"type":"message","id":"a"}'
Part = Callable[[str], ModuleType]


def text(payload: bytes) -> bytes:
    head = bytes((len(payload),)) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2)
    return b"\x81" + head + payload


def test_the_crowd_counts_messages_and_nothing_else(part: Part) -> None:
    long = b'{"type":"message","content":"' + b"x" * 300 + b'"}'
    frames = text(MESSAGE) + text(b'{"type":"live"}') + text(b'{"type":"pong"}') + text(long)
    read = part("crowd").parse(frames)
    assert (read.messages, read.live, read.pings, read.rest) == (2, True, 0, b"")


def test_a_frame_that_is_not_complete_is_kept_and_not_counted(part: Part) -> None:
    whole = text(MESSAGE)
    for cut in range(len(whole)):
        read = part("crowd").parse(whole + whole[:cut])
        assert (read.messages, read.rest) == (1, whole[:cut])
        assert part("crowd").parse(read.rest + whole[cut:]).messages == 1


def test_each_ping_is_answered_with_its_payload_masked(part: Part) -> None:
    read = part("crowd").parse(b"\x89\x02ab" + text(MESSAGE) + b"\x89\x01c")
    assert (read.pings, read.pongs) == (2, b"\x8a\x82\0\0\0\0ab\x8a\x81\0\0\0\0c")


def scrape(low: float, high: float) -> dict[str, float]:
    return {
        'lag_bucket{le="0.01"}': low,
        'lag_bucket{le="0.05"}': low + high,
        'lag_bucket{le="+Inf"}': low + high,
    }


def test_a_quantile_is_of_what_came_between_two_scrapes_of_all_pods(part: Part) -> None:
    pods = [(scrape(1000, 0), scrape(1050, 0)), (scrape(0, 7), scrape(0, 57))]
    assert part("pods").quantile(pods, "lag", 0.5) == pytest.approx(0.01)
    assert part("pods").quantile(pods, "lag", 0.75) == pytest.approx(0.03)


def test_a_quantile_of_nothing_is_none(part: Part) -> None:
    assert part("pods").quantile([(scrape(1, 1), scrape(1, 1))], "lag", 0.99) == 0


def results(part: Part, *runs: dict[str, float], scenario: str = "catchup", quick: bool = False) -> Any:
    about = {"quick": quick, "redis": "embedded", "machine": {}, "revision": "abc", "time": "2026-01-01T00"}
    stored = [{"scenario": scenario, "figures": figures} for figures in runs]
    return part("results").Results(about, stored)


def worse(part: Part, name: str, before: Sequence[float], now: Sequence[float]) -> bool:
    [one] = part("compare").compare(
        results(part, *({name: value} for value in before)), results(part, *({name: value} for value in now))
    )
    assert not isinstance(one.worse, str)
    return bool(one.worse)


def test_a_cost_that_rose_by_more_than_its_noise_is_worse(part: Part) -> None:
    assert worse(part, "cpu_us", [98, 100, 102], [109, 110, 111])
    assert not worse(part, "cpu_us", [90, 100, 105], [109, 110, 111])


def test_a_cost_that_rose_by_less_than_a_twentieth_is_not_worse(part: Part) -> None:
    assert not worse(part, "cpu_us", [100], [104])
    assert worse(part, "cpu_us", [100], [106])


def test_a_cost_that_fell_is_not_worse(part: Part) -> None:
    assert not worse(part, "cpu_us", [100], [50])


def test_a_rate_is_worse_when_it_falls(part: Part) -> None:
    assert worse(part, "per_s", [100], [50])
    assert not worse(part, "per_s", [100], [200])


def test_quick_results_are_not_compared_with_others(part: Part) -> None:
    with pytest.raises(part("machine").BenchError, match="quick = True"):
        part("compare").compare(results(part, quick=True), results(part))


def test_a_mark_of_no_scenario_is_refused(part: Part, tmp_path: Any) -> None:
    page = tmp_path / "performance.md"
    page.write_text("<!-- bench:tea -->\n<!-- /bench -->\n")
    with pytest.raises(part("machine").BenchError, match="a mark for tea"):
        part("tables").write_tables(results(part), page)


def test_a_table_has_median_range_and_target(part: Part) -> None:
    table = part("tables").table(
        results(part, {"cpu_us": 30}, {"cpu_us": 1234.5}, {"cpu_us": 29.96}), "catchup"
    )
    assert table.splitlines()[2].endswith("| 30 us | 30 to 1 234 | 40 us |")
