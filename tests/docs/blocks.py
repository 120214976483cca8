"""The blocks of code in README.md and docs/: fenced ones, and indented ones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "block", "blocks", "pages"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Block:
    """`language` is empty for an indented one. `line` is where its text begins, from 1."""

    page: str
    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        """Its first line, by which it is known."""
        return self.text.splitlines()[0]

    @property
    def commands(self) -> list[str]:
        """Its lines but for blank ones and comments; those that end in a backslash with the next."""
        joined = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [line for line in joined if line.strip() and not line.startswith("#")]

    def __str__(self) -> str:
        return f"{self.page}:{self.line} {self.first!r}"


def pages() -> list[str]:
    """README.md and the pages of docs/, as they are called in the tests."""
    return ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def blocks(*only: str) -> list[Block]:
    """Every block of these pages, or of all."""
    return [one for page in only or pages() for one in _read(page, (ROOT / page).read_text().splitlines())]


def block(page: str, start: str) -> Block:
    """The one block of `page` whose first line starts with `start`."""
    found = [one for one in blocks(page) if one.first.startswith(start)]
    assert len(found) == 1, f"{len(found)} blocks of {page} start with {start!r}"
    return found[0]


def _read(page: str, lines: Sequence[str]) -> Iterator[Block]:
    at = 0
    while at < len(lines):
        if fence := re.match(r"\s*```(\w*)", lines[at]):
            end = next(n for n in range(at + 1, len(lines)) if lines[n].strip() == "```")
            # "text" tells a fence without a language from an indented block.
            yield Block(page, at + 2, fence[1] or "text", "\n".join(lines[at + 1 : end]))
            at = end + 1
        elif lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()):
            end = _end_of_indented(lines, at)
            yield Block(page, at + 1, "", "\n".join(line[4:] for line in lines[at:end]).rstrip())
            at = end
        else:
            at += 1


def _end_of_indented(lines: Sequence[str], at: int) -> int:
    while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
        at += 1
    return at
