"""Every promise of `docs/security.md` names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs/security.md").read_text()
NODES = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
PROMISE = re.compile(r"^\*\*(.+?)\*\*(.*?)(?=^\*\*|^#|\Z)", re.MULTILINE | re.DOTALL)
NO_PROMISE = {"Found something?"}


@cache
def names_in(file: str) -> set[str]:
    """The names of its tests, read and not run."""
    tree = ast.parse((ROOT / file).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {function.name for function in functions if function.name.startswith("test_")}


def test_every_test_that_is_named_exists() -> None:
    assert len(NODES) > 100
    assert [f"{file}::{name}" for file, name in NODES if name not in names_in(file)] == []


def test_every_promise_names_a_test() -> None:
    promises = dict(PROMISE.findall(PAGE))
    assert len(promises) > 30
    without = {title for title, text in promises.items() if "::test_" not in text}
    assert without == NO_PROMISE
