"""The Lua scripts, each in its own file with its KEYS, ARGV and answer explained there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Script", "script"]

_FOLDER = Path(__file__).parent / "lua"


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the digest by which an engine that has it runs it."""

    name: str
    text: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script in `lua/NAME.lua`, read once. Raises `FileNotFoundError` for a name that is none."""
    text = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
    # SHA-1 is how Redis names scripts (EVALSHA); nothing is protected by it.
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
