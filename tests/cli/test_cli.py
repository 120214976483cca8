"""The program: commands, exit codes, what is printed where."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tornado.ioloop import IOLoop

from pushserver import __version__, cli
from pushserver.cli import main
from pushserver.config import Settings
from pushserver.core.errors import StoreUnavailableError
from pushserver.development import development_secret
from pushserver.web.token_keys import load_keys
from pushserver.web.tokens import TokenVerifier
from tests.stage import LIVE, WELCOME, Seat, Stage, closing, message, on_stage

SHIPPED = Path(__file__).parent.parent.parent / "conf" / "pushserver.toml"


@pytest.fixture
def stage(io_loop: IOLoop) -> Iterator[Stage]:
    with on_stage(io_loop) as stage:
        yield stage


def refused(*argv: str) -> None:
    """Run with wrong arguments."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2


def program(*argv: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pushserver", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SHIPPED.parent.parent), **options.pop("env", {})},
        **options,
    )


def test_it_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"pushserver {__version__}\n"


def test_python_m_pushserver_is_the_same_program() -> None:
    process = program("--version")
    assert process.communicate(timeout=30)[0] == f"pushserver {__version__}\n"


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("dance",),
        ("token",),
        ("token", "a\nb"),
        ("token", ""),
        ("token", "ann", "--ttl", "0"),
        ("token", "ann", "--ttl", "1e3"),
        ("token", "ann", "--category", "vip"),
        ("token", "ann", "--category", "king=1"),
        ("token", "ann", "--tt", "5"),
        ("connect",),
        ("connect", "ann", "--token", "abc"),
        ("connect", "--token", "a b"),
        ("connect", "--token", "a\r\nX: y"),
        ("connect", "ann", "--count", "0"),
        ("connect", "ann", "--url", "http://127.0.0.1/ws"),
        ("connect", "ann", "--url", "ws:///ws"),
        ("connect", "ann", "--url", "ws://127.0.0.1:port/ws"),
        ("connect", "ann", "--url", "ws://127.0.0.1/\r\nws"),
        ("check-config", "--server.port", "1"),
    ],
)
def test_wrong_arguments_end_it_with_2(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    refused(*argv)
    assert capsys.readouterr().err.startswith("usage: pushserver")


def test_every_wrong_setting_is_told_on_a_line_of_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, logged: list[tuple[str, str]]
) -> None:
    monkeypatch.setenv("PUSHSERVER_SERVER__PRT", "1")
    assert main(["token", "ann", "--set", "server.port=x", "--set", "red\x1b.is=1"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sorted(err.splitlines()) == [
        r"pushserver: red\x1b.is: is not a setting (flag)",
        "pushserver: server.port: should be a valid integer (flag)",
        "pushserver: server.prt: is not a setting (environment)",
    ]
    assert logged == []


def test_the_file_may_be_named_by_a_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "push.toml").write_text("[server]\nport = 77")
    assert main(["check-config", "--config", "push.toml"]) == 0
    assert "port = 77  # file push.toml\n" in capsys.readouterr().out
    assert main(["check-config", "--config", "none.toml"]) == 2
    assert "none.toml: cannot be read" in capsys.readouterr().err


def test_logging_is_configured_as_set(logged: list[tuple[str, str]]) -> None:
    assert main(["check-config", "--set", "logging.level=error", "--set", "logging.format=json"]) == 0
    assert logged == [("error", "json")]


def test_check_config_prints_what_is_in_effect_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-config", "--config", str(SHIPPED)]) == 0
    assert tomllib.loads(capsys.readouterr().out) == tomllib.loads(SHIPPED.read_text())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings,told",
    [
        (['origin.allow=["https://a/b"]'], "origin.allow: "),
        (['admin.origins=["push.example"]'], "admin.origins: "),
        (
            ['auth.algorithms=["ES256"]', "auth.public_key_file=none.pem"],
            "auth.public_key_file: cannot be read",
        ),
        (
            ["auth.previous_secret=" + "x" * 32, 'auth.algorithms=["ES256"]', "auth.public_key_file=p"],
            "auth.",
        ),
        (["auth.public_key_file=p"], "auth.public_key_file: "),
        (["auth.jwks_url=https://h/k"], "auth.jwks_url: is set, but auth.algorithms names none"),
        (
            ['auth.algorithms=["ES256"]', "auth.jwks_url=https://h/k", "auth.jwks_ca_file=none.pem"],
            "auth.jwks_ca_file: cannot be read as PEM",
        ),
        (
            ["categories.source=http", "categories.url=https://h/{user}", "categories.ca_file=none.pem"],
            "categories.ca_file: cannot be read as PEM",
        ),
        (["server.certfile=none.pem", "server.keyfile=none.pem"], "server.certfile: cannot be read"),
    ],
)
def test_check_config_looks_closer_than_types_do(
    settings: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-config", *(word for text in settings for word in ("--set", text))]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"pushserver: {told}")
    assert err.count("\n") == 1


def test_check_config_takes_a_production_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["redis.url=rediss://u:s3cr3t@h", "auth.secret=" + "s3cr3t" * 6, "server.host=0.0.0.0"]
    assert main(["check-config", *(word for text in words for word in ("--set", text))]) == 0
    out, err = capsys.readouterr()
    assert 'url = "rediss://***@h"  # flag' in out
    assert "s3cr3t" not in out + err


def verified(token: str, secret: str, now: float) -> Any:
    keys = load_keys(["HS256"], secret=secret.encode())
    return TokenVerifier(keys, now=lambda: now).verify(token)


def test_a_token_is_signed_with_the_secret_that_the_server_will_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = time.time()
    assert main(["token", "ann"]) == 0
    out, err = capsys.readouterr()
    identity = verified(out.strip(), development_secret(tmp_path / ".pushserver"), time.time())
    assert (identity.username, identity.categories_claim, err) == ("ann", None, "")
    assert before + 3600 <= identity.expires_at <= time.time() + 3600


def test_a_token_is_signed_with_the_secret_that_is_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSHSERVER_AUTH__SECRET", "x" * 32)
    assert main(["token", "ann", "--ttl", "5"]) == 0
    identity = verified(capsys.readouterr().out.strip(), "x" * 32, time.time())
    assert identity.expires_at <= time.time() + 5
    assert list(tmp_path.iterdir()) == []


def test_a_token_may_carry_categories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["token", "ann", "--category", "vip=3", "--category", "hall=a=b", "--category", "vip=4"]
    assert main([*argv, "--set", "categories.source=claims"]) == 0
    out, err = capsys.readouterr()
    identity = verified(out.strip(), development_secret(tmp_path / ".pushserver"), time.time())
    assert identity.categories_claim == {"vip": ["3", "4"], "hall": ["a=b"]}
    assert err == ""
    assert main(argv) == 0
    assert "categories.source" in capsys.readouterr().err


@pytest.mark.parametrize(
    "setting,told",
    [
        ("auth.issuer=me", "auth.issuer: is set"),
        ("auth.audience=me", "auth.audience: is set"),
    ],
)
def test_a_token_that_the_server_would_refuse_is_not_made(
    setting: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["token", "ann", "--set", setting]) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith(f"pushserver: {told}")) == ("", True)


def test_a_token_of_an_asymmetric_key_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["token", "ann", "--set", 'auth.algorithms=["RS256"]', "--set", "auth.public_key_file=key.pem"]
    assert main(argv) == 2
    assert "auth.algorithms: tokens of RS256" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gen_test
async def test_connect_shows_a_users_messages_with_a_token_of_its_own(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.plays.append(closing(1000, "bye", WELCOME, message("a"), LIVE))
    url = f"ws://127.0.0.1:{stage.port}/ws"
    assert await asyncio.to_thread(main, ["connect", "ann", "--url", url]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "welcome",
        "message",
        "live",
        "closed",
    ]
    token = stage.visits[0]["Authorization"].removeprefix("Bearer ")
    assert verified(token, development_secret(tmp_path / ".pushserver"), time.time()).username == "ann"


@pytest.mark.gen_test
async def test_connect_takes_a_token_and_a_count_and_acks(stage: Stage) -> None:
    async def play(seat: Seat) -> None:
        seat.send(message("a"), message("b"))

    stage.plays.append(play)
    url = f"ws://127.0.0.1:{stage.port}/ws"
    argv = ["connect", "--token", "a.b.c", "--url", url, "--count", "1", "--ack"]
    assert await asyncio.to_thread(main, argv) == 0
    assert stage.visits[0]["Authorization"] == "Bearer a.b.c"
    assert await stage.seats[0].left() == [{"type": "ack", "ids": ["a"]}, 1000]


@pytest.mark.gen_test
async def test_connect_that_is_refused_ends_with_1(stage: Stage) -> None:
    stage.plays.append((401, {}, '{"error":{"code":"not_authenticated","message":"expired"}}'))
    argv = ["connect", "--token", "a.b.c", "--url", f"ws://127.0.0.1:{stage.port}/ws"]
    assert await asyncio.to_thread(main, argv) == 1


@pytest.mark.parametrize("count,code", [((), 0), (("--count", "9"), 1)])
@pytest.mark.gen_test(timeout=30)
async def test_ctrl_c_closes_the_connection_and_prints_no_traceback(
    stage: Stage, tmp_path: Path, count: tuple[str, ...], code: int
) -> None:
    async def play(seat: Seat) -> None:
        seat.send(WELCOME)

    stage.plays.append(play)
    process = program("connect", "ann", "--url", f"ws://127.0.0.1:{stage.port}/ws", *count, cwd=tmp_path)
    assert process.stdout is not None
    assert (await asyncio.to_thread(process.stdout.readline)).startswith("welcome")
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(process.communicate)
    assert (process.returncode, out, err) == (code, "", "")
    assert await stage.seats[0].left() == [1000]


@pytest.mark.gen_test(timeout=30)
async def test_ctrl_c_ends_a_handshake_that_nobody_answers(io_loop: IOLoop, tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(keep_silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    process = program("connect", "ann", "--url", f"ws://127.0.0.1:{port}/ws", cwd=tmp_path)
    await asked.wait()
    process.send_signal(signal.SIGINT)
    out, err = await asyncio.to_thread(process.communicate)
    server.close()
    await server.wait_closed()
    assert (process.returncode, out, err) == (0, "", "")


def test_a_reader_that_went_away_ends_it_without_a_traceback(tmp_path: Path) -> None:
    with program("check-config", cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_text_that_the_terminal_has_no_characters_for_is_escaped(tmp_path: Path) -> None:
    process = program(
        "check-config",
        "--set",
        "auth.issuer=ü",
        cwd=tmp_path,
        env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    )
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert r'issuer = "\xfc"' in out


@pytest.mark.parametrize(
    "error,code",
    [(StoreUnavailableError("timeout", "no\nanswer"), 1), (KeyboardInterrupt(), 1)],
)
def test_what_a_command_raises_becomes_a_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int
) -> None:
    def fail(arguments: Any, settings: Settings) -> int:
        raise error

    command = cli.Command("fails", lambda parser: None, fail)
    monkeypatch.setitem(cli.COMMANDS, "fail", command)
    assert main(["fail"]) == code
    err = capsys.readouterr().err
    assert err == ("pushserver: timeout: no\\nanswer\n" if str(error) else "")
