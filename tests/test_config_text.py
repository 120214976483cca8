"""Settings as TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pushserver.config import Settings
from pushserver.config_load import load
from pushserver.config_text import as_toml

SHIPPED = Path(__file__).parent.parent / "conf" / "pushserver.toml"
ENVIRON = {"PUSHSERVER_REDIS__URL": "redis://h", "PUSHSERVER_AUTH__SECRET": "x" * 32}


def test_the_defaults_are_those_of_the_shipped_file() -> None:
    assert tomllib.loads(as_toml(Settings())) == tomllib.loads(SHIPPED.read_text())


def test_a_setting_that_was_given_says_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "a\n\x1b.toml"
    file.write_text("[server]\nport = 1")
    lines = as_toml(load(str(file), ["drain.spread_s=1.5"], ENVIRON)).splitlines()
    assert "port = 1  # file " + str(tmp_path) + r"/a\u000A\u001B.toml" in lines
    assert "spread_s = 1.5  # flag" in lines
    assert 'url = "redis://h"  # environment' in lines
    assert 'host = "127.0.0.1"' in lines


def test_what_it_prints_can_be_loaded_again(tmp_path: Path) -> None:
    hostile = 'a"b\\c\n\x1b\x7f\x85\u2028\u202e\U000e0001 😀'
    given = {
        "auth": {"issuer": hostile},
        "proxy": {"trusted": ["::1"], "headers": []},
        "server": {"reuse_port": True},
    }
    text = as_toml(Settings.model_validate(given))
    assert text.replace("\n", "").isprintable()
    (tmp_path / "push.toml").write_text(text.replace('name = ""', 'name = "p"'))
    settings = load(str(tmp_path / "push.toml"), (), {})
    assert settings.auth.issuer == hostile
    assert (settings.proxy.trusted, settings.proxy.headers, settings.server.reuse_port) == (
        ("::1",),
        (),
        True,
    )


def test_secrets_are_masked() -> None:
    settings = Settings.model_validate(
        {
            "auth": {"secret": "s3cr3t://" * 8, "previous_secret": "s3cr3t" * 8},
            "admin": {"api_keys": ["s3cr3t" * 8, "s3cr3t" * 9]},
        }
    )
    text = as_toml(settings)
    assert "s3cr3t" not in text
    assert 'secret = "***"' in text
    assert 'api_keys = ["***", "***"]' in text


def test_of_a_redis_url_user_and_password_are_masked() -> None:
    for url, shown in {
        "redis://h:6379/1": "redis://h:6379/1",
        "redis://user:s3cr3t@h:6379/1": "redis://***@h:6379/1",
        "redis://:s3cr3t@h": "redis://***@h",
        "redis://:s3%40cr3t@s3cr3t@h": "redis://***@h",
        "unix:///run/r.sock?db=1&password=s3cr3t": "unix:///run/r.sock?db=1&password=***",
        "redis://h?password=s3cr3t&db=1": "redis://h?password=***&db=1",
        "redis+sentinel://u:s3cr3t@h,h2/m?sentinel_password=s3cr3t": (
            "redis+sentinel://***@h,h2/m?sentinel_password=***"
        ),
    }.items():
        assert f'\nurl = "{shown}"\n' in as_toml(Settings.model_validate({"redis": {"url": url}}))


def test_of_a_database_url_no_password_is_shown() -> None:
    url = "postgresql://u:s3cr3t@h/d?sslkey=/k.pem&sslpassword=s3cr3t&password=s3cr3t&sslmode=require"
    shown = "postgresql://***@h/d?sslkey=/k.pem&sslpassword=***&password=***&sslmode=require"
    assert f'\ndatabase_url = "{shown}"' in as_toml(
        Settings.model_validate({"consume": {"database_url": url}})
    )
