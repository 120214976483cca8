"""Every command runs in an empty folder, with an empty environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def logged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str]]:
    """An empty folder and environment; answers how logging was configured."""
    configured: list[tuple[str, str]] = []
    monkeypatch.setattr("pushserver.cli.logs.configure", lambda level, fmt: configured.append((level, fmt)))
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PUSHSERVER_")]:
        monkeypatch.delenv(name)
    return configured
