"""Every block of code on the pages is tried: typed, run, parsed, or listed here with the reason why not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pushserver.config_load import load
from tests.docs.blocks import ROOT, Block, blocks, pages
from tests.docs.test_quick_start import TYPED

SHOWN = "tests/docs/test_shown.py"
CLIENTS = "tests/test_docs_clients.py"
# Page -> start of a block -> the file that runs it.
RUN_ELSEWHERE = {
    "docs/architecture.md": {"from pushserver.server import run": SHOWN},
    "docs/clients.md": {
        "import { Client }": CLIENTS,
        'client.on("state"': CLIENTS,
        "from pushserver.client": CLIENTS,
        "import logging": CLIENTS,
    },
    "docs/migrating.md": {"import logging": SHOWN},
    "docs/protocol.md": {
        "Sec-WebSocket-Extensions": SHOWN,
        '{"type":"welcome"': SHOWN,
        '{"type":"ack"': SHOWN,
    },
}
PICTURE = "a picture in characters"
SUITE = "the suite itself, and parts of it that take minutes"
MEASURES = "measures for minutes"
FORM = "the form of a command; test_commands.py looks at its options"
# Page -> start of a block -> why nobody runs it.
NOT_RUN = {
    "README.md": {
        "gcloud": "needs gcloud; tests/system/test_pubsub.py runs pods beside Google's emulator",
        "flowchart": PICTURE,
        "pushserver serve": FORM,
    },
    "docs/architecture.md": {"core <- stores": PICTURE, "accept ->": PICTURE},
    "docs/authentication.md": {"GET /users": "what a pod asks; tests/web/test_asked_categories.py answers"},
    "docs/delivery.md": {"publish    content": PICTURE},
    "docs/deploying.md": {
        "docker": "needs Docker; tests/deploy runs the steps of the image",
        "cd conf": "needs Docker; tests/deploy/test_compose.py",
        "cat >> .env": "needs Docker; tests/deploy/test_compose.py",
        "kubectl": "needs a cluster; tests/deploy/test_kubernetes.py",
        "python3 -m venv": "needs systemd; tests/deploy/test_systemd.py",
        "PUSHSERVER_REDIS__URL": "needs systemd; tests/deploy/test_systemd.py",
    },
    "docs/explaining.md": {"pushserver explain": FORM, "accepted = ": "an equation"},
    "docs/exposures.md": {"pod -> sink": PICTURE, "pushserver consume": FORM},
    "docs/migrating.md": {"func TeamOnly": "Go, what the Python beside it is translated from"},
    "docs/operations.md": {"# /etc/pushserver": "a file of secrets; tests/system/test_reload.py"},
    # Every block of it.
    "docs/performance.md": {"": MEASURES},
    "docs/sizing.md": {"cores = ": "an equation"},
    "docs/testing.md": {"scripts/test": SUITE, "scripts/fuzz": MEASURES, "TEST_": SUITE},
}

ALL = blocks()
ENVIRON = {"PUSHSERVER_REDIS__URL": "redis://redis", "PUSHSERVER_AUTH__SECRET": "x" * 32}


def is_toml(one: Block) -> bool:
    return one.language == "toml" or (not one.language and re.match(r"\[\w+\]$", one.first) is not None)


def is_yaml(one: Block) -> bool:
    return one.language == "yaml" or (not one.language and re.match(r"\w+:$", one.first) is not None)


def entries(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(page, start) of a table, for the pages that there are."""
    return [(page, start) for page, starts in table.items() for start in starts if page in pages()]


def test_every_block_is_tried_or_has_its_reason() -> None:
    known = [entry for table in (TYPED, RUN_ELSEWHERE, NOT_RUN) for entry in entries(table)]
    strays = [
        str(one)
        for one in ALL
        if not is_toml(one)
        and not is_yaml(one)
        and one.language != "json"
        and not any(one.page == page and one.first.startswith(start) for page, start in known)
    ]
    assert strays == []


@pytest.mark.parametrize("table", [TYPED, RUN_ELSEWHERE, NOT_RUN])
def test_nothing_is_listed_that_is_no_longer_there(table: Mapping[str, Any]) -> None:
    gone = [
        (page, start)
        for page, start in entries(table)
        if not any(one.page == page and one.first.startswith(start) for one in ALL)
    ]
    assert gone == []


def test_who_is_said_to_run_a_block_exists() -> None:
    for page, start in entries(RUN_ELSEWHERE):
        runner = ROOT / RUN_ELSEWHERE[page][start]
        assert page in runner.read_text(), runner


@pytest.mark.parametrize("one", [one for one in ALL if is_toml(one)], ids=str)
def test_settings_on_the_pages_are_settings(one: Block, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    text = one.text.replace('"..."', f'"{"x" * 32}"')
    file.write_text(text)
    given = tomllib.loads(text)
    read = load(str(file), [], ENVIRON)
    for section, values in given.items():
        assert all(read.origin_of(section, name) == f"file {file}" for name in values)


def test_yaml_and_json_on_the_pages_can_be_read() -> None:
    for one in ALL:
        if is_yaml(one):
            assert yaml.safe_load(one.text), one
        if one.language == "json":
            json.loads(one.text)


def test_python_on_the_pages_can_be_compiled() -> None:
    for one in ALL:
        if one.language == "python":
            compile(one.text, str(one), "exec")


def test_javascript_on_the_pages_can_be_parsed(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node")
    for one in ALL:
        if one.language == "js":
            (tmp_path / "snippet.mjs").write_text(one.text)
            done = subprocess.run(
                [node, "--check", tmp_path / "snippet.mjs"], capture_output=True, check=False
            )
            assert done.returncode == 0, f"{one}\n{done.stderr.decode()}"
