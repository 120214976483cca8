"""What development mode prints."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pushserver.banner import development_banner
from pushserver.config import Settings
from pushserver.development import token_secret
from pushserver.web.token_keys import load_keys
from pushserver.web.tokens import TokenVerifier


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pushserver"])


def banner(port: int = 8000, admin_port: int = 8001, **sections: dict[str, object]) -> str:
    return development_banner(Settings.model_validate(sections), port, admin_port)


def test_it_tells_where_clients_and_operators_connect() -> None:
    text = banner(8005, 8006)
    assert "ws://127.0.0.1:8005/ws" in text
    assert "http://127.0.0.1:8005/demo" in text
    assert "http://127.0.0.1:8006/v1/users/alice" in text
    assert "wss://127.0.0.1:8005/ws" not in text
    secure = banner(8005, server={"certfile": "c.pem", "keyfile": "k.pem"})
    assert "connect alice --url wss://127.0.0.1:8005/ws" in secure
    assert "https://127.0.0.1:8005/demo" in secure


def test_its_token_is_believed_by_this_pod_for_a_day() -> None:
    text = banner()
    (token,) = [word for word in text.split() if word.startswith("eyJ")]
    keys = load_keys(["HS256"], secret=token_secret(Settings()).encode())
    identity = TokenVerifier(keys, now=time.time).verify(token)
    assert identity.username == "alice"
    assert identity.expires_at == pytest.approx(time.time() + 86_400, abs=60)


def test_a_client_is_told_the_url_only_where_it_is_not_its_own_default() -> None:
    assert "--url" not in banner()
    assert "pushserver connect alice --url ws://127.0.0.1:8005/ws" in banner(8005)
    assert "--url ws://127.0.0.2:8000/ws" in banner(server={"host": "127.0.0.2"})


def test_an_ipv6_address_is_written_as_urls_have_it() -> None:
    text = banner(server={"host": "::1"}, admin={"host": "::1"})
    assert "--url ws://[::1]:8000/ws" in text
    assert "http://[::1]:8001/metrics" in text


def test_a_pod_that_signs_no_tokens_shows_none() -> None:
    """With public keys whoever holds the private one makes them."""
    text = banner(auth={"algorithms": ["EdDSA"], "public_key_file": "key.pem"})
    assert "eyJ" not in text
    assert "pushserver token" not in text
    assert "ws://127.0.0.1:8000/ws" in text


@pytest.mark.parametrize(
    "called, shown",
    [
        ("pushserver", "pushserver"),
        ("/usr/lib/python/pushserver/__main__.py", "pushserver"),
        ("bin/pushserver", "bin/pushserver"),
        ("/nowhere/bin/pushserver", "pushserver"),
    ],
)
def test_commands_are_shown_as_the_program_was_called(
    called: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [called])
    assert f"seed        {shown} seed alice" in banner()
