"""The pages as they are read: links lead somewhere, the README names every page, lines fit a screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.blocks import ROOT, blocks, pages

WIDTH = 120
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Rows of tables, pictures, and names and links alone on their line cannot be broken.
UNBREAKABLE = re.compile(r"\s*(\||!\[|\[[^\]]*\]\([^)]*\)[.,;]?$|- `[^` ]+`$)")


def links() -> Iterator[tuple[str, str]]:
    """(page, target) of every link."""
    for page in pages():
        for target in LINK.findall((ROOT / page).read_text()):
            yield page, target


def anchors(page: Path) -> set[str]:
    """What GitHub makes of its headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_within_the_repository_leads_somewhere() -> None:
    broken = []
    for page, target in links():
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append((page, target))
    assert broken == []


def test_the_readme_leads_to_every_page() -> None:
    named = {target.partition("#")[0] for page, target in links() if page == "README.md"}
    assert set(pages()) - {"README.md"} - named == set()


def test_no_line_is_longer_than_a_screen() -> None:
    inside = {(one.page, one.line + at) for one in blocks() for at in range(len(one.text.splitlines()))}
    long = [
        f"{page}:{number} {len(line)}"
        for page in [*pages(), "CHANGELOG.md"]
        for number, line in enumerate((ROOT / page).read_text().splitlines(), 1)
        if len(line) > WIDTH and (page, number) not in inside and not UNBREAKABLE.match(line)
    ]
    assert long == []


def test_no_line_of_a_block_has_to_be_scrolled_for() -> None:
    long = [
        f"{one} {len(line)}" for one in blocks() for line in one.text.splitlines() if len(line) > WIDTH + 20
    ]
    assert long == []
