"""The rules beyond a type: of one value, and between settings."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from pushserver.config import Settings
from pushserver.config_checks import (
    check_api_key,
    check_authorization,
    check_https_url,
    check_url,
    check_user_url,
    contradictions,
)

REDIS = {"url": "redis://example"}
SECRET = {"secret": "x" * 32}
HTTP = {"source": "http", "url": "http://h/{user}"}
PRODUCTION = {"production": True}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis://localhost",
        "redis://user:p%40ss@localhost:6380/3",
        "rediss://[::1]:6379?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis.sock?db=2",
        "unix://:pass@/run/redis.sock",
        "redis+cluster://10.0.0.1:7000",
        "rediss+cluster://10.0.0.1:7000/",
        "redis+sentinel://10.0.0.1,10.0.0.2:26380/mymaster",
        "rediss+sentinel://user:p%40ss@[::1]:26379/my.master/2?sentinel_username=u&sentinel_password=p&ssl_ca_certs=/ca",
    ],
)
def test_a_redis_url_of_a_known_scheme_is_taken(url: str) -> None:
    assert check_url(SecretStr(url)).get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://localhost",
        "redis+sentinel://localhost",
        "redis+sentinelx://localhost/mymaster",
        "redis+sentinel://localhost/mymaster?sentinel_timeout=1",
        "redis+sentinel://localhost/mymaster?ssl_cert_reqs=none",
        "redis+sentinel://localhost/mymaster?sentinel_password=a@b",
        "redis://localhost?sentinel_password=p",
        "redis://",
        "redis://localhost:port",
        "redis://localhost:70000",
        "redis://[::1",
        "redis://localhost/\x1b[2J",
        "unix://",
        "redis://localhost?socket_timeout=60",
        "rediss://localhost?ssl_cert_reqs=none",
        "redis://localhost/zero",
        "redis://user:12/pass@localhost",
        "redis://user:1#2@localhost",
        "redis://user:1?db=2@localhost",
        "unix://:1/pass@/run/redis.sock",
        "redis://localhost?password=a@b",
        "redis+cluster://localhost/1",
        "redis+cluster://localhost?db=1",
    ],
)
def test_any_other_redis_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"must be SCHEME|/SERVICE|no options but|percent-encoded|database"):
        check_url(SecretStr(url))


def test_a_refused_redis_url_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="no options but") as refused:
        check_url(SecretStr("redis://u:p4ssw0rd@h?s3cret=1"))
    assert "p4ssw0rd" not in str(refused.value)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", "https://issuer.example/.well-known/jwks.json", "https://[::1]:8443/keys?tenant=a%20b"]
)
def test_the_url_of_keys_is_https(url: str) -> None:
    assert check_https_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/keys",
        "http://127.0.0.1/keys",
        "https:///keys",
        "https://",
        "https://user:p4ss@issuer.example/keys",
        "https://p4ss@issuer.example/keys",
        "https://issuer.example/keys#one",
        "https://issuer.example:port/keys",
        "https://issuer.example:0/keys",
        "https://issuer.example:70000/keys",
        "https://[::1/keys",
        "https://issuer.example/a b",
        "https://issuer.example/\n",
        "https://issuer.example/é",
        "file:///etc/keys",
        "//issuer.example/keys",
        "issuer.example/keys",
    ],
)
def test_any_other_url_of_keys_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match="must be https://HOST") as refused:
        check_https_url(url)
    assert "p4ss" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://backend.example/users/{user}/categories",
        "http://10.0.0.7:8080/{user}",
        "http://[::1]/categories?user={user}&all=1",
    ],
)
def test_the_url_of_categories_says_where_the_user_belongs(url: str) -> None:
    assert check_user_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://backend.example/",
        "http://backend.example/{user}/{user}",
        "http://backend.example/{name}",
        "http://backend.example/{user}{",
        "http://backend.example/{user}?{}",
        "http://{user}.example/",
        "http://{user}/{user}",
        "http://backend.example?user={user}",
        "http://backend.example:{user}/",
        "http://backend.example/#{user}",
        "http://name:p4ss@backend.example/{user}",
        "ftp://backend.example/{user}",
        "/users/{user}",
        "http:///{user}",
        "http://backend.example/{user} ",
    ],
)
def test_any_other_url_of_categories_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r"\{user\}") as refused:
        check_user_url(url)
    assert "p4ss" not in str(refused.value)


@pytest.mark.parametrize("value", ["", "Bearer k", "k", "x" * 4096])
def test_an_authorization_that_can_stand_in_a_header_is_taken(value: str) -> None:
    assert check_authorization(SecretStr(value)).get_secret_value() == value


@pytest.mark.parametrize("value", [" ", "k ", " k", "Bearer s3cret\r\nX: y", "é", "a\0b", "x" * 4097])
def test_an_authorization_that_cannot_stand_in_a_header_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as refused:
        check_authorization(SecretStr(value))
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("key", ["x" * 15, "x" * 16 + " ", "x" * 16 + "\n", "x" * 15 + "é", ""])
def test_an_api_key_that_is_short_or_cannot_stand_in_a_header_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="16 characters"):
        check_api_key(SecretStr(key))


@pytest.mark.parametrize(
    "sections,setting",
    [
        ({"server": {"host": "0.0.0.0"}}, "server.host"),
        ({"server": {"host": "example.com"}}, "server.host"),
        ({"admin": {"host": "::", "api_keys": ["x" * 16]}}, "admin.host"),
        ({"redis": REDIS, "auth": SECRET, "admin": {"host": "10.0.0.1"}}, "admin.api_keys"),
        ({"server": {"port": 8001}}, "admin.port"),
        ({"server": {"reuse_port": True}}, "pod.name"),
        ({"server": {"certfile": "c.pem"}}, "server.keyfile"),
        ({"server": {"keyfile": "k.pem"}}, "server.certfile"),
        ({"redis": REDIS}, "auth.secret"),
        ({"pod": PRODUCTION, "auth": SECRET}, "redis.url"),
        ({"pod": PRODUCTION, "redis": REDIS}, "auth.secret"),
        ({"auth": {"algorithms": ["RS256"]}}, "auth.public_key_file"),
        ({"redis": REDIS, "auth": {"algorithms": ["HS256", "EdDSA"], **SECRET}}, "auth.public_key_file"),
        ({"auth": {"jwks_ca_file": "ca.pem"}}, "auth.jwks_ca_file"),
        ({"auth": {"jwks_max_stale_s": 299.0}}, "auth.jwks_max_stale_s"),
        ({"categories": {"source": "http"}}, "categories.url"),
        ({"categories": {"url": "http://h/{user}"}}, "categories.url"),
        ({"categories": {"source": "claims", "authorization": "Bearer k"}}, "categories.authorization"),
        ({"categories": {"ca_file": "ca.pem"}}, "categories.ca_file"),
        ({"categories": {**HTTP, "timeout_ms": 10_000}}, "categories.timeout_ms"),
        ({"categories": HTTP, "limits": {"handshake_timeout_s": 2.0}}, "categories.timeout_ms"),
        ({"redis": {"timeout_ms": 5000}}, "redis.timeout_ms"),
        ({"pod": {"lease_ms": 12_000}}, "redis.timeout_ms"),
        ({"content": {"ttl_s": 2_592_001}}, "content.ttl_s"),
        ({"delivery": {"window_bytes": 262_143}}, "content.max_bytes"),
        ({"content": {"cache_bytes": 262_143}}, "content.max_bytes"),
        ({"exposure": {"sink": "pubsub"}}, "exposure.topic"),
        ({"exposure": {"sink": "pubsub", "topic": "t"}}, "exposure.topic"),
        ({"drain": {"spread_s": 30}}, "drain.timeout_s"),
    ],
)
def test_settings_that_cannot_both_stand_are_named(sections: dict[str, Any], setting: str) -> None:
    assert [problem.setting for problem in contradictions(Settings(**sections))] == [setting]


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"server": {"host": "localhost"}, "admin": {"host": "::1"}},
        {"server": {"host": "127.3.2.1", "port": 8001}},
        {"server": {"port": 0}, "admin": {"port": 0}},
        {"server": {"reuse_port": True}, "pod": {"name": "a"}},
        {"server": {"certfile": "c.pem", "keyfile": "k.pem"}},
        {"redis": REDIS, "auth": SECRET, "server": {"host": "0.0.0.0"}},
        {"redis": REDIS, "auth": SECRET, "admin": {"host": "0.0.0.0", "api_keys": ["x" * 16]}},
        {"redis": REDIS, "auth": {"algorithms": ["ES256"], "public_key_file": "key.pem"}},
        {"redis": REDIS, "auth": {"algorithms": ["ES256"], "jwks_url": "https://issuer.example/keys"}},
        {"categories": {**HTTP, "timeout_ms": 9999, "authorization": "Bearer k", "ca_file": "ca.pem"}},
        {"pod": PRODUCTION, "redis": REDIS, "auth": SECRET, "server": {"host": "0.0.0.0"}},
        {"redis": {"timeout_ms": 4999}},
        {"content": {"ttl_s": 2_592_000}},
        {"delivery": {"window_bytes": 262_144}},
        {"exposure": {"sink": "pubsub", "topic": "projects/p-1/topics/t.1"}},
        {"drain": {"spread_s": 29.9}},
    ],
)
def test_settings_that_agree_raise_no_objection(sections: dict[str, Any]) -> None:
    assert list(contradictions(Settings(**sections))) == []


def test_in_production_everything_that_is_missing_is_named_at_once() -> None:
    """A container that was started without its settings: nobody has to start it four times to learn them."""
    bare = Settings.model_validate(
        {"pod": PRODUCTION, "server": {"host": "0.0.0.0"}, "admin": {"host": "0.0.0.0"}}
    )
    assert not bare.development
    assert {problem.setting for problem in contradictions(bare)} == {
        "redis.url",
        "auth.secret",
        "admin.api_keys",
    }
