"""What is served at `/dashboard`, and under which rules; what it does is in `tests/system`."""

from __future__ import annotations

import re

import pytest

from pushserver.web.admin.dashboard import FILES, HEADERS, PAGE
from tests.web.admin.desk import KEY, desk


@pytest.mark.gen_test
async def test_the_page_and_its_files_need_no_key_and_are_never_kept() -> None:
    async with desk(KEY) as at:
        for path, file in FILES.items():
            answer = await at.get(path)
            assert (answer.status, answer.body) == (200, file.text), path
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert (await at.get(PAGE)).headers["content-type"] == "text/html; charset=utf-8"
        assert (await at.get(f"{PAGE}/main.js")).headers["content-type"] == "text/javascript; charset=utf-8"
        assert (await at.get(f"{PAGE}/page.css")).headers["content-type"] == "text/css; charset=utf-8"


@pytest.mark.gen_test
async def test_nothing_but_its_files_is_served() -> None:
    async with desk(KEY) as at:
        for path in (
            f"{PAGE}/",
            f"{PAGE}/page.html",
            f"{PAGE}/mainxjs",
            f"{PAGE}/../handler.py",
            f"{PAGE}/%2e%2e/handler.py",
            f"{PAGE}/__init__.py",
            f"{PAGE}%2Fmain.js",
        ):
            assert (await at.get(path)).status == 404, path


@pytest.mark.gen_test
async def test_every_answer_says_that_it_is_framed_by_nobody_and_runs_nothing_of_others() -> None:
    async with desk(KEY) as at:
        for path, method in ((PAGE, "GET"), (f"{PAGE}/main.js", "GET"), (PAGE, "POST")):
            answer = await at.get(path, method=method)
            for name, value in HEADERS.items():
                assert answer.headers[name.lower()] == value
        rules = dict(rule.strip().split(" ", 1) for rule in HEADERS["Content-Security-Policy"].split(";"))
        assert rules.pop("default-src") == rules.pop("frame-ancestors") == "'none'"
        assert set(rules.values()) <= {"'self'", "'none'", "'script'"}


def test_nothing_stands_in_the_page_that_its_rules_would_stop() -> None:
    page = FILES[PAGE].text.decode()
    assert not re.search(r"<style|\bstyle=|\bon\w+=|<script(?![^>]*\bsrc=)|javascript:|https?://", page)
    loaded = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    assert {f"/{path}" for path in loaded} <= set(FILES)
    for path, file in FILES.items():
        assert not re.search(
            rb"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|innerHTML|eval\(", file.text
        ), path


def test_every_label_names_a_field_that_is_there() -> None:
    page = FILES[PAGE].text.decode()
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    named = re.findall(r'\b(?:for|aria-labelledby|list)="([^"]+)"', page)
    assert named
    assert set(named) <= set(ids)
    fields = re.findall(r'<(?:input|textarea)[^>]*\bid="([^"]+)"', page)
    assert set(fields) - {"live-only"} <= set(re.findall(r'<label for="([^"]+)"', page))
