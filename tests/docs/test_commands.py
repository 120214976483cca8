"""Commands on the pages, typed or not, are commands of this program with options that it has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from pushserver import cli
from pushserver.config_load import load
from tests.docs.blocks import ROOT, blocks, pages

ENVIRON = {
    "PUSHSERVER_REDIS__URL": "redis://redis",
    "PUSHSERVER_AUTH__SECRET": "x" * 32,
    # What another flag of the same command says.
    "PUSHSERVER_EXPOSURE__TOPIC": "projects/P/topics/T",
    "PUSHSERVER_CONSUME__SUBSCRIPTION": "projects/P/subscriptions/S",
}
PROGRAM = re.compile(rf"\bpushserver ((?:{'|'.join(cli.COMMANDS)})\b.*)")
SHELL = {"", "text", "sh", "bash"}
PATHS = re.compile(r"(?<![\w/.:])(?:scripts|tests|conf|docs|pushserver)/[\w./-]*\w(?![\w*])")


def commands() -> Iterator[list[str]]:
    """The words of every command of the program in a block."""
    for one in blocks():
        for line in one.commands if one.language in SHELL else ():
            # An arrow is in a picture of programs.
            if (found := PROGRAM.search(line)) and "->" not in line:
                lexer = shlex.shlex(found[1], posix=True, punctuation_chars=True)
                lexer.whitespace_split = True
                yield list(lexer)


def test_every_command_is_understood_by_the_program() -> None:
    found = list(commands())
    assert len(found) > 20
    for words in found:
        try:
            cli._parser().parse_args([word.strip("[]") for word in words])
        except SystemExit:
            pytest.fail(f"{words} is no command")


def test_every_setting_that_a_command_is_given_is_one() -> None:
    flags = {flag for one in blocks() for flag in re.findall(r"--set[ =](\S+=\S+)", one.text)}
    assert len(flags) >= 6
    for flag in flags:
        load("", [flag], ENVIRON)


def test_every_file_that_a_page_names_is_there() -> None:
    named = {(page, path) for page in pages() for path in PATHS.findall((ROOT / page).read_text())}
    assert len(named) > 30
    assert {(page, path) for page, path in named if not (ROOT / path).exists()} == set()
