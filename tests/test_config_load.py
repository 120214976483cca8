"""Reading settings from a file, the environment and flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pushserver.config import Settings
from pushserver.config_load import load
from pushserver.core.errors import ConfigError


def loaded(
    tmp_path: Path, toml: str = "", flags: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> Settings:
    file = tmp_path / "push.toml"
    file.write_text(toml)
    return load(str(file), flags, environ or {})


def problems(
    tmp_path: Path, toml: str = "", flags: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> list[str]:
    with pytest.raises(ExceptionGroup) as refused:
        loaded(tmp_path, toml, flags, environ)
    assert all(isinstance(error, ConfigError) for error in refused.value.exceptions)
    return [str(error).replace(str(tmp_path), "DIR") for error in refused.value.exceptions]


def test_without_anything_given_the_defaults_hold() -> None:
    settings = load("", (), {"PATH": "/bin"})
    assert settings == Settings()
    assert settings.origin_of("server", "port") == "default"


def test_environment_goes_before_the_file_and_flags_before_both(tmp_path: Path) -> None:
    toml = '[server]\nport = 1\nmax_connections = 1\nhost = "localhost"'
    environ = {"PUSHSERVER_SERVER__PORT": "2", "PUSHSERVER_SERVER__MAX_CONNECTIONS": "2"}
    settings = loaded(tmp_path, toml, ["server.port=3"], environ)
    assert (settings.server.port, settings.server.max_connections) == (3, 2)
    assert settings.server.host == "localhost"
    assert settings.origin_of("server", "port") == "flag"
    assert settings.origin_of("server", "max_connections") == "environment"
    assert settings.origin_of("server", "host") == f"file {tmp_path}/push.toml"
    assert settings.origin_of("server", "reuse_port") == "default"


def test_the_environment_file_goes_before_the_environment_and_flags_before_it(tmp_path: Path) -> None:
    """Its lines are read anew each time; who started the process by it has handed it an old copy."""
    variables = tmp_path / "variables"
    variables.write_text(
        "# ours\nPUSHSERVER_AUTH__SECRET='with = # and \\$HOME of 32 bytes ....'\n\nOTHER=1\n"
        "PUSHSERVER_SERVER__PORT=3\nexport PUSHSERVER_AUTH__ISSUER=me  # who\n"
    )
    environ = {"PUSHSERVER_ENV_FILE": str(variables), "PUSHSERVER_SERVER__PORT": "2", "OTHER": "2"}
    settings = loaded(tmp_path, "[server]\nport = 1", environ=environ)
    assert settings.server.port == 3
    assert settings.auth.secret.get_secret_value() == "with = # and \\$HOME of 32 bytes ...."
    assert settings.auth.issuer == "me"
    assert settings.origin_of("auth", "issuer") == f"environment file {variables}"
    assert loaded(tmp_path, flags=["server.port=4"], environ=environ).server.port == 4
    variables.write_text("")
    assert loaded(tmp_path, "[server]\nport = 1", environ=environ).server.port == 2


@pytest.mark.parametrize("text", ["A=1\ns3cr3t\n", "A=1\n=s3cr3t\n", "A=1\nPUSHSERVER_X='s3cr3t\n"])
def test_a_line_of_the_environment_file_that_sets_nothing_is_told_without_its_text(
    tmp_path: Path, text: str
) -> None:
    variables = tmp_path / "variables"
    variables.write_text(text)
    told = problems(tmp_path, environ={"PUSHSERVER_ENV_FILE": str(variables)})
    assert told == ["DIR/variables: line 2 is not NAME=VALUE"]


def test_an_environment_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, environ={"PUSHSERVER_ENV_FILE": str(tmp_path / "none")})
    assert told.startswith("DIR/none: cannot be read")


def test_the_environment_may_name_the_file_and_the_flag_goes_before_it(tmp_path: Path) -> None:
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text("[server]\nport = 1")
    two.write_text("[server]\nport = 2")
    assert load("", (), {"PUSHSERVER_CONFIG": str(one)}).server.port == 1
    assert load(str(two), (), {"PUSHSERVER_CONFIG": str(one)}).server.port == 2


@pytest.mark.parametrize(
    "name,text,value",
    [
        ("delivery.window", "7", 7),
        ("delivery.ping_interval_s", "0.5", 0.5),
        ("auth.query_token", "true", True),
        ("auth.issuer", "true", "true"),
        ("auth.issuer", "7", "7"),
        ("auth.issuer", '["a=b"]', '["a=b"]'),
        ("proxy.trusted", '["10.0.0.0/8", "::1"]', ("10.0.0.0/8", "::1")),
        ("proxy.trusted", "[]", ()),
        ("exposure.sink", "none", "none"),
    ],
)
def test_a_text_becomes_what_its_setting_is(tmp_path: Path, name: str, text: str, value: object) -> None:
    section, key = name.split(".")
    variable = f"PUSHSERVER_{section}__{key}".upper()
    for settings in (
        loaded(tmp_path, flags=[f"{name}={text}"]),
        loaded(tmp_path, environ={variable: text}),
    ):
        assert getattr(getattr(settings, section), key) == value


def test_secrets_come_from_text_too(tmp_path: Path) -> None:
    environ = {"PUSHSERVER_AUTH__SECRET": "1" * 32, "PUSHSERVER_ADMIN__API_KEYS": '["0123456789abcdef"]'}
    settings = loaded(tmp_path, environ=environ)
    assert settings.auth.secret.get_secret_value() == "1" * 32
    assert settings.admin.api_keys[0].get_secret_value() == "0123456789abcdef"


def test_unknown_settings_are_named_wherever_they_stand(tmp_path: Path) -> None:
    toml = "top = 1\n_env_file = 1\n[server]\nprt = 1\n[sever]\nport = 1\n[server.tls]\nx = 1\n"
    environ = {
        "PUSHSERVER_SERVER__HOSTT": "x",
        "PUSHSERVER_SRVER__PORT": "1",
        "PUSHSERVER_REDIS_URL": "redis://h",
        "PUSHSERVER_SERVER_PORT": "1",
    }
    assert sorted(problems(tmp_path, toml, ["drain=1", "SERVER.port=1"], environ)) == [
        "SERVER.port: is not a setting (flag)",
        "_env_file: is not a setting (file DIR/push.toml)",
        "drain: is a section, not a setting (flag)",
        "redis_url: is not a setting (environment)",
        "server.hostt: is not a setting (environment)",
        "server.prt: is not a setting (file DIR/push.toml)",
        "server.tls: is not a setting (file DIR/push.toml)",
        "server_port: is not a setting (environment)",
        "sever.port: is not a setting (file DIR/push.toml)",
        "srver.port: is not a setting (environment)",
        "top: is not a setting (file DIR/push.toml)",
    ]


def test_a_whole_section_in_one_variable_is_refused(tmp_path: Path) -> None:
    environ = {"PUSHSERVER_SERVER": '{"port": 1}', "PUSHSERVER_SERVER__HOST": "localhost"}
    assert problems(tmp_path, environ=environ) == ["server: is a section, not a setting (environment)"]


def test_all_wrong_values_are_told_at_once_each_with_where_it_was_given(tmp_path: Path) -> None:
    toml = '[server]\nport = "8000"\n[auth]\nalgorithms = ["HS256", "none"]\n[proxy]\ntrusted = "10.0.0.0/8"'
    environ = {"PUSHSERVER_DELIVERY__WINDOW": "many", "PUSHSERVER_DELIVERY__PING_INTERVAL_S": "nan"}
    assert problems(
        tmp_path, toml, ["drain.spread_s=", "redis.prefix={p}", 'proxy.headers=["X-A", 7]'], environ
    ) == [
        "server.port: should be a valid integer (file DIR/push.toml)",
        "redis.prefix: should match pattern '^[A-Za-z0-9._:-]{1,64}$' (flag)",
        "auth.algorithms: item 2: should be 'HS256', 'RS256', 'ES256' or 'EdDSA' (file DIR/push.toml)",
        'proxy.trusted: must be a list, such as ["a", "b"] (file DIR/push.toml)',
        "proxy.headers: item 2: should be a valid string (flag)",
        "delivery.window: should be a valid integer (environment)",
        "delivery.ping_interval_s: should be a finite number (environment)",
        "drain.spread_s: should be a valid number (flag)",
    ]


def test_contradictions_are_told_once_every_value_is_right_by_itself(tmp_path: Path) -> None:
    assert problems(tmp_path, flags=["server.host=::", "drain.timeout_s=1"]) == [
        "server.host: must be a loopback address unless redis.url is set",
        "drain.timeout_s: must be more than drain.spread_s",
    ]


def test_no_refusal_repeats_a_secret(tmp_path: Path) -> None:
    given = {
        "PUSHSERVER_AUTH__SECRET": "s3cr3t",
        "PUSHSERVER_ADMIN__API_KEYS": '["s3cr3t", 3]',
        "PUSHSERVER_REDIS__URL": "http://u:s3cr3t@h",
        "PUSHSERVER_AUTH__SECRTE": "s3cr3t",
    }
    told = problems(tmp_path, environ=given)
    assert len(told) == 5
    assert "s3cr3t" not in "".join(told)
    assert "s3cr3t" not in "".join(problems(tmp_path, flags=["auth.secret: s3cr3t"]))


@pytest.mark.parametrize(
    "name,value",
    [
        ("PUSHSERVER_SERVICE_HOST", "10.96.0.7"),
        ("PUSHSERVER_SERVICE_PORT", "8000"),
        ("PUSHSERVER_SERVICE_PORT_WS", "8000"),
        ("PUSHSERVER_PORT", "tcp://10.96.0.7:8000"),
        ("PUSHSERVER_PORT_8000_TCP", "tcp://10.96.0.7:8000"),
        ("PUSHSERVER_PORT_8000_TCP_ADDR", "10.96.0.7"),
        ("PUSHSERVER_ADMIN_PORT", "tcp://10.96.0.7:8001"),
        ("PUSHSERVER_ADMIN_SERVICE_HOST", "10.96.0.7"),
    ],
)
def test_what_kubernetes_sets_beside_a_service_of_that_name_is_no_setting(
    tmp_path: Path, name: str, value: str
) -> None:
    assert loaded(tmp_path, environ={name: value}) == Settings()


def test_a_text_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    environ = {"PUSHSERVER_AUTH__SECRET": "\udcff" * 32, "PUSHSERVER_REDIS__URL": "redis://\udcff"}
    assert [text.partition(":")[0] for text in problems(tmp_path, environ=environ)] == [
        "redis.url",
        "auth.secret",
    ]


def test_a_flag_without_a_value_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, flags=["server.port"]) == ["--set: must be section.name=value"]


@pytest.mark.parametrize("content", [b"[server\n", b"[server]\nport = 1\nport = 2", b"\xff"])
def test_a_file_that_is_no_toml_is_refused_by_its_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "push.toml"
    file.write_bytes(content)
    with pytest.raises(ExceptionGroup) as refused:
        load(str(file), (), {})
    assert str(refused.value.exceptions[0]).startswith(f"{file}: cannot be read: ")


def test_a_file_that_is_not_there_is_refused_by_its_name(tmp_path: Path) -> None:
    for missing in (tmp_path / "no.toml", tmp_path):
        with pytest.raises(ExceptionGroup) as refused:
            load(str(missing), (), {})
        assert str(refused.value.exceptions[0]).startswith(f"{missing}: cannot be read: ")
