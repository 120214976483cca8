"""The settings themselves, and the file that documents them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from pushserver.config import Settings

SHIPPED = Path(__file__).parent.parent / "conf" / "pushserver.toml"


def plain(value: Any) -> Any:
    """A setting's value as TOML would give it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def defaults() -> dict[str, dict[str, Any]]:
    return {
        section: {name: plain(value) for name, value in settings}  # a model yields its fields
        for section, settings in Settings()
    }


def test_the_shipped_file_has_every_setting_with_its_default_in_the_order_of_the_code() -> None:
    shipped = tomllib.loads(SHIPPED.read_text())
    assert shipped == defaults()
    assert [(section, list(names)) for section, names in shipped.items()] == [
        (section, list(names)) for section, names in defaults().items()
    ]


def test_the_shipped_file_explains_every_setting_right_above_it() -> None:
    before = ""
    unexplained = []
    for line in SHIPPED.read_text().splitlines():
        if "=" in line and not line.startswith("#") and not before.startswith("# "):
            unexplained.append(line)
        before = line
    assert unexplained == []


def test_every_duration_and_size_carries_its_unit_in_its_name() -> None:
    units = ("_s", "_ms", "_bytes", "_per_s", "_per_ip", "_per_user", "_max", "_events")
    counts = {"port", "max_connections", "window", "cap", "page", "max_users", "max_length"}
    numbers = {
        name
        for names in defaults().values()
        for name, value in names.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    assert {name for name in numbers if not name.endswith(units)} == counts


def test_settings_cannot_be_changed() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.server.port = 1
    with pytest.raises(ValidationError):
        settings.server = Settings().server


def test_settings_built_directly_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER__PORT", "9")
    monkeypatch.setenv("PUSHSERVER_SERVER__PORT", "9")
    assert Settings().server.port == 8000


def test_no_redis_url_is_development_mode() -> None:
    assert Settings().development
    assert not Settings.model_validate({"redis": {"url": "redis://example"}}).development


def test_the_printed_settings_hold_no_secret() -> None:
    settings = Settings.model_validate(
        {
            "auth": {"secret": "s3cr3t" * 6, "previous_secret": "0lds3cr3t" * 4},
            "redis": {"url": "redis://u:p4ssw0rd@h"},
            "admin": {"api_keys": ["k3y" * 8]},
            "categories": {"authorization": "Bearer c4tk3y"},
        }
    )
    for secret in ("s3cr3t", "0lds3cr3t", "p4ssw0rd", "k3y", "c4tk3y"):
        assert secret not in f"{settings!r} {settings} {settings.model_dump()}"


@pytest.mark.parametrize(
    "section,name,value",
    [
        ("server", "port", 65536),
        ("server", "port", -1),
        ("server", "port", "8000"),
        ("server", "port", True),
        ("server", "port", 8000.0),
        ("server", "host", ""),
        ("server", "max_connections", 0),
        ("server", "reuse_port", 1),
        ("server", "reuse_port", "yes"),
        ("pod", "name", "Upper"),
        ("pod", "lease_ms", 0),
        ("redis", "prefix", "{ps}:"),
        ("redis", "prefix", "ps:\n"),
        ("redis", "prefix", ""),
        ("redis", "timeout_ms", 0),
        ("redis", "durability", "disk"),
        ("auth", "algorithms", []),
        ("auth", "algorithms", ["none"]),
        ("auth", "secret", "x" * 31),
        ("auth", "previous_secret", "x" * 31),
        ("auth", "jwks_url", "http://issuer.example/keys"),
        ("auth", "jwks_refresh_s", 0.9),
        ("auth", "jwks_max_stale_s", float("inf")),
        ("auth", "leeway_s", 60.5),
        ("auth", "leeway_s", -1),
        ("categories", "source", "https"),
        ("categories", "url", "ftp://h/{user}"),
        ("categories", "url", "http://h/"),
        ("categories", "authorization", "Bearer a\nb"),
        ("categories", "timeout_ms", 60_001),
        ("categories", "max_connections", 0),
        ("proxy", "trusted", ["example.com"]),
        ("proxy", "headers", ["X-Forwarded-For:"]),
        ("proxy", "headers", ["X-Real-IP\n"]),
        ("proxy", "platform", "CF Connecting"),
        ("delivery", "window", 0),
        ("delivery", "ping_interval_s", 0),
        ("delivery", "ping_interval_s", float("nan")),
        ("delivery", "ping_timeout_s", float("inf")),
        ("inbox", "rescan_s", -0.1),
        ("content", "ttl_s", 0),
        ("content", "ttl_s", 2**63),
        ("exposure", "sink", "kafka"),
        ("exposure", "batch_events", 1001),
        ("limits", "connections_per_user", 0),
        ("limits", "connections_per_ip", -1),
        ("logging", "level", "INFO"),
        ("logging", "format", "xml"),
    ],
)
def test_a_value_outside_its_type_or_bounds_is_refused(section: str, name: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings.model_validate({section: {name: value}})
    assert {problem["loc"][:2] for problem in refused.value.errors()} == {(section, name)}


@pytest.mark.parametrize(
    "section,name,value",
    [
        ("server", "port", 0),
        ("server", "port", 65535),
        ("server", "send_buffer_bytes", 0),
        ("admin", "api_keys", ["x" * 16]),
        ("pod", "name", "pod-1.example"),
        ("auth", "secret", "x" * 32),
        ("auth", "secret", "ß" * 16),
        ("auth", "leeway_s", 0),
        ("auth", "leeway_s", 60),
        ("categories", "authorization", "Bearer k3y"),
        ("proxy", "trusted", ["10.0.0.0/8", "::1", "192.168.1.7"]),
        ("proxy", "platform", "CF-Connecting-IP"),
        ("delivery", "ping_interval_s", 0.05),
        ("inbox", "rescan_s", 0),
        ("limits", "connections_per_ip", 0),
        ("drain", "spread_s", 0),
    ],
)
def test_a_value_at_its_bounds_is_taken(section: str, name: str, value: Any) -> None:
    settings = Settings.model_validate({section: {name: value}})
    assert plain(getattr(getattr(settings, section), name)) == value
