from __future__ import annotations

import csv
import io
import json

import pytest

from pushserver.database.reading import Figures
from pushserver.report.tables import as_csv, as_json, as_table, duration

GROUPS = [
    Figures("m-1", 1200, 1000, 200, 900, 12, 1500, 40, 7_500_000),
    Figures("m-2", 3, 3, 0, 3, 1, 2, 3, 4),
]
TOTALS = Figures("all", 1203, 1003, 200, 901, 12, 1500, 40, 7_500_000)


def test_the_table_is_aligned_and_ends_with_the_totals() -> None:
    lines = as_table("message", GROUPS, TOTALS).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].split() == [
        "m-1",
        "1",
        "200",
        "1",
        "000",
        "200",
        "900",
        "12",
        "ms",
        "1.5",
        "s",
        "40",
        "ms",
        "2",
        "h",
        "5",
        "m",
    ]
    assert lines[-1].startswith("all ")


def test_a_name_that_a_terminal_would_obey_is_escaped_and_a_long_one_cut() -> None:
    hostile = [Figures("vip=\x1b[2J" + "x" * 200, 1, 1, 1, 1, 1, 1, 1, 1)]
    text = as_table("category", hostile, TOTALS)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 160


def test_csv_names_its_units_and_no_name_is_a_formula() -> None:
    rows = list(
        csv.DictReader(io.StringIO(as_csv("category", [*GROUPS, Figures("=1+1", *[0] * 4, *[None] * 4)])))
    )
    assert rows[0]["category"] == "m-1"
    assert rows[0]["wait_p95_ms"] == "7500000"
    assert (rows[2]["category"], rows[2]["confirm_median_ms"]) == ("'=1+1", "")


def test_json_has_groups_and_totals() -> None:
    read = json.loads(as_json("message", GROUPS, TOTALS))
    assert read["by"] == "message"
    assert [one["group"] for one in read["groups"]] == ["m-1", "m-2"]
    assert read["totals"]["delivered"] == 1203


def test_times_are_told_as_times() -> None:
    bucket = [Figures("1700000000000", 1, 1, 1, 1, 1, 1, 1, 1)]
    assert json.loads(as_json("time", bucket, TOTALS))["groups"][0]["group"] == "2023-11-14 22:13 UTC"


@pytest.mark.parametrize(
    "milliseconds, text",
    [
        (None, "-"),
        (0, "0 ms"),
        (-3, "-3 ms"),
        (999, "999 ms"),
        (1500, "1.5 s"),
        (2000, "2 s"),
        (90_000, "2 m"),
        (7_200_000, "2 h"),
        (7_500_000, "2 h 5 m"),
        (90_000_000, "1 d 1 h"),
        (86_400_000, "1 d"),
    ],
)
def test_durations_are_for_people(milliseconds: int | None, text: str) -> None:
    assert duration(milliseconds) == text
