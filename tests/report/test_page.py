from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

from pushserver.database.database import Database
from pushserver.database.reading import Filter, read
from pushserver.report.page import as_html, read_page
from tests.database.look import records
from tests.exposure.examples import an_exposure


def page_of(tmp_path: Path, *shown: object, which: Filter | None = None) -> str:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    database = Database(url)
    database.open()
    database.store(records(*shown), [])  # type: ignore[arg-type]
    database.close()
    with read(url) as reading:
        return as_html(read_page(reading, which or Filter()), 1_700_000_000_000)


def test_it_shows_totals_and_every_chart(tmp_path: Path) -> None:
    text = page_of(
        tmp_path, an_exposure("alice"), an_exposure("bob", message_id="spring-offer", source="offline")
    )
    for word in ("users reached", "Deliveries over time", "From push to confirm", "Top messages", "By pod"):
        assert word in text
    for name in ("spring-offer", "vip=3", "hall=a", "pod-1", "offline"):
        assert name in text


def test_each_chart_is_well_formed_and_has_a_name(tmp_path: Path) -> None:
    charts = re.findall(r"<svg.*?</svg>", page_of(tmp_path, an_exposure()), re.DOTALL)
    assert len(charts) == 6
    for chart in charts:
        assert ET.fromstring(chart).get("aria-label")


def test_nothing_is_loaded_and_no_script_runs(tmp_path: Path) -> None:
    text = page_of(tmp_path, an_exposure())
    assert not re.search(r"<script|https?://|@import|url\(|\bon\w+=", text)
    assert "default-src 'none'" in text


def test_a_hostile_category_stays_a_text(tmp_path: Path) -> None:
    shown = an_exposure("eve")
    shown.connection = shown.connection.replace(b'"a"', b'"</title><script>alert(1)</script>"')
    text = page_of(tmp_path, shown)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_the_time_axis_has_the_empty_times_too_and_a_bounded_number_of_bars(tmp_path: Path) -> None:
    apart = 90 * 86_400_000
    late = an_exposure("bob", pushed_at=1_700_000_000_000 + apart, confirmed_at=1_700_000_000_100 + apart)
    text = page_of(tmp_path, an_exposure(), late)
    chart = re.search(r'<svg[^>]*aria-label="Deliveries over time".*?</svg>', text, re.DOTALL)
    assert chart
    bars = chart[0].count("<rect")
    assert 10 < bars <= 61


def test_an_empty_database_makes_a_page(tmp_path: Path) -> None:
    assert "Nothing yet" in page_of(tmp_path)
