"""`pushserver pods`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from pushserver import backend
from pushserver.cli import main
from pushserver.config import Settings
from pushserver.core.errors import StoreUnavailableError
from tests.web.admin.desk import FakeUsers


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> FakeUsers:
    """In place of those behind Redis."""
    users = FakeUsers()

    @asynccontextmanager
    async def open_backend(settings: Settings) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(users=users)

    monkeypatch.setattr(backend, "open_backend", open_backend)
    return users


def test_pods_are_listed_in_a_table(users: FakeUsers, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pods"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["POD", "BOOT", "HOST", "ADDRESS", "VERSION", "STARTED", "EXPIRES", "ALIVE"]
    assert row.split() == [
        "pod-1",
        "7",
        "h",
        "127.0.0.1:8000",
        "0.1",
        *["1970-01-01", "00:00:00Z"] * 2,
        "yes",
    ]
    assert head.index("ADDRESS") == row.index("127.0.0.1")


def test_pods_are_listed_as_json(users: FakeUsers, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pods", "--json"]) == 0
    (pod,) = json.loads(capsys.readouterr().out)
    assert (pod["pod"], pod["expires"], pod["alive"]) == ("pod-1", 2, True)


def test_what_a_pod_says_of_itself_does_not_move_the_terminal(
    users: FakeUsers, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def pods() -> list[dict[str, object]]:
        (pod,) = await FakeUsers().pods()
        return [{**pod, "host": "a\x1b[2J\nb"}]

    monkeypatch.setattr(users, "pods", pods)
    assert main(["pods"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count("\n") == 2


def test_with_redis_away_it_ends_with_1(users: FakeUsers, capsys: pytest.CaptureFixture[str]) -> None:
    users.trouble = StoreUnavailableError("timeout", "no answer")
    assert main(["pods"]) == 1
    assert capsys.readouterr().err == "pushserver: timeout: no answer\n"
