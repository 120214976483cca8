"""The secret that development mode keeps."""

from __future__ import annotations

import secrets
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from pushserver.config import Settings
from pushserver.core.errors import ConfigError
from pushserver.development import development_secret, token_secret


def test_the_secret_is_made_once_and_kept_for_its_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    secret = development_secret(directory)
    assert development_secret(directory) == secret
    assert development_secret(tmp_path / "other") != secret
    assert len(secret) >= 32
    assert (directory / "secret").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700


def test_processes_that_start_together_get_one_secret(tmp_path: Path) -> None:
    # Programs of their own: a fork of a process with threads may hang.
    code = "import sys, pathlib; from pushserver.development import development_secret as make;"
    code += "sys.stdin.read(); print(make(pathlib.Path(sys.argv[1])))"
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in starts:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    made = {process.communicate(timeout=30)[0] for process in starts}
    assert len(made) == 1
    assert made.pop().strip()


def test_only_one_of_two_makes_the_secret_while_the_other_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_make_one = threading.Barrier(2, timeout=0.2)
    token_hex = secrets.token_hex

    def make(size: int) -> str:
        with suppress(threading.BrokenBarrierError):
            both_make_one.wait()
        return token_hex(size)

    monkeypatch.setattr(secrets, "token_hex", make)
    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(development_secret, [tmp_path] * 2))) == 1
    assert both_make_one.broken


def test_an_empty_file_of_a_maker_that_died_is_filled(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    assert development_secret(tmp_path) == (tmp_path / "secret").read_text()


@pytest.mark.parametrize("content", [b"short", b"\xff" * 64])
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^auth\.secret: none is set, and .*/secret "):
        development_secret(tmp_path)
    assert (tmp_path / "secret").read_bytes() == content


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"auth\.secret"):
        development_secret(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"auth\.secret"):
        development_secret(tmp_path / "file")


def test_tokens_are_signed_with_the_set_secret_before_the_kept_one(tmp_path: Path) -> None:
    settings = Settings.model_validate({"auth": {"secret": "x" * 32}})
    assert token_secret(settings, tmp_path / "none") == "x" * 32
    assert not (tmp_path / "none").exists()
    assert token_secret(Settings(), tmp_path) == development_secret(tmp_path)


def test_tokens_of_an_asymmetric_key_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"auth\.algorithms: tokens of RS256"):
        token_secret(Settings.model_validate({"auth": {"algorithms": ["RS256"]}}), tmp_path)
