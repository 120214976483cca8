from __future__ import annotations

import re
from pathlib import Path

import pytest

from pushserver.stores import scripts
from pushserver.stores.commands import Commands
from pushserver.stores.scripts import script
from tests.stores.engines import REAL

NAMES = sorted(path.stem for path in (Path(scripts.__file__).parent / "lua").glob("*.lua"))
REFUSED_WHEN_FULL = {"inbox_append"}
"""What makes Redis fuller than it is, and whose caller can be told so."""


@pytest.mark.parametrize("name", NAMES)
def test_every_script_has_a_header_and_says_what_it_takes_and_answers(name: str) -> None:
    header, *lines = script(name).text.splitlines()
    comment = "\n".join(line for line in lines if line.startswith("--"))
    assert header.startswith("#!lua")
    assert "KEYS" in comment
    assert "->" in comment or name == "missed_told"


@pytest.mark.parametrize("name", NAMES)
def test_a_full_redis_refuses_no_script_but_the_append(name: str) -> None:
    header = script(name).text.splitlines()[0]
    flags = set(re.findall("allow-oom|no-writes", header))
    assert len(flags) == (0 if name in REFUSED_WHEN_FULL else 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_script_takes_values_by_its_arguments_only(name: str) -> None:
    """The text is the same each time, so nothing is put into it."""
    assert script(name) is script(name)
    assert "loadstring" not in script(name).text


@pytest.mark.parametrize("commands", REAL, indirect=True)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.gen_test
async def test_every_script_compiles_and_is_named_by_its_digest(commands: Commands, name: str) -> None:
    for digest in await commands.on_each_node("SCRIPT", "LOAD", script(name).text):
        assert digest.decode() == script(name).sha


def test_a_script_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        script("no_such_script")
