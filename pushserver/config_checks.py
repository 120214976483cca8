"""What a setting's value must be beyond its type, and what settings must be to each other."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from pushserver.core.client_ip import ClientIPRule
from pushserver.core.errors import ConfigError, InvalidNameError
from pushserver.core.names import check_pod_name
from pushserver.core.sentinel_url import SentinelURL

if TYPE_CHECKING:
    from pushserver.config import Settings

__all__ = [
    "check_api_key",
    "check_authorization",
    "check_database_url",
    "check_https_url",
    "check_name",
    "check_proxies",
    "check_secret",
    "check_url",
    "check_user_url",
    "contradictions",
    "parse_list",
]

MIN_SECRET_BYTES = 32
"""RFC 7518 section 3.2: an HS256 key has at least the size of its hash."""

_REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster")
_SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password"}
# Others would undo what the client is given: its time-outs, its protocol, the check of certificates.
_REDIS_OPTIONS = {"db", "username", "password", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"}
_TOPIC = re.compile(r"projects/[^/\s]+/topics/[^/\s]+")
_SUBSCRIPTION = re.compile(r"projects/[^/\s]+/subscriptions/[^/\s]+")
_DATABASE_URL = re.compile(r"sqlite:///[^?#\s][^?#]*|postgresql://[^/?#\s]+/[^/?#\s]+(\?[^#\s]*)?")


def check_url(url: SecretStr) -> SecretStr:
    """A URL of Redis, or empty. Raises `ValueError`, like every check here; none repeats a secret."""
    text = url.get_secret_value()
    if not text:
        return url
    allowed = _REDIS_OPTIONS
    if re.match(r"[a-z]+\+sentinel:", text):
        text, allowed = SentinelURL.parse(text).plain, _REDIS_OPTIONS | _SENTINEL_OPTIONS
    try:
        parts = urlsplit(text)
        place = parts.path if parts.scheme == "unix" else parts.hostname and parts.port != 0
    except ValueError:
        place = None
    if not place or parts.scheme not in _REDIS_SCHEMES or not text.isprintable():
        known = ", ".join((*_REDIS_SCHEMES, "redis+sentinel", "rediss+sentinel"))
        raise ValueError(f"must be SCHEME://HOST[:PORT] or unix:///PATH, SCHEME {known}")
    if "@" in parts.path + parts.query or "#" in text:
        raise ValueError("must have user and password percent-encoded")
    options = parse_qs(parts.query, keep_blank_values=True).keys()
    if options - allowed:
        raise ValueError(f"may have no options but {', '.join(sorted(allowed))}")
    if parts.scheme.endswith("+cluster") and (parts.path not in {"", "/"} or "db" in options):
        raise ValueError("must name no database, for a cluster has but one")
    if parts.scheme != "unix" and not re.fullmatch(r"(/[0-9]*)?", parts.path):
        raise ValueError("must have the number of a database as its path, or none")
    return url


def check_database_url(url: SecretStr) -> SecretStr:
    """A URL of a database."""
    text = url.get_secret_value()
    if not _DATABASE_URL.fullmatch(text) or not text.isprintable():
        raise ValueError("must be sqlite:///FILE or postgresql://USER:PASSWORD@HOST[:PORT]/DATABASE")
    return url


def check_https_url(url: str) -> str:
    """A URL that says who may come in, or empty: nobody on the way may change what is answered."""
    if url and not _is_http_url(url, ("https",)):
        raise ValueError("must be https://HOST[:PORT]/..., without user, password and fragment")
    return url


def check_user_url(url: str) -> str:
    """A URL with `{user}` in place of a username, in its path or its query, or empty."""
    if not url:
        return url
    place, slash, rest = url.partition("://")[2].partition("/")
    if not _is_http_url(url, ("http", "https")) or not slash or "{" in place:
        raise ValueError(
            "must be http[s]://HOST[:PORT]/... with {user} in it, without user, password, fragment"
        )
    if rest.count("{user}") != 1 or set(rest.replace("{user}", "")) & set("{}"):
        raise ValueError("must have {user} in it once, and no other braces")
    return url


def check_authorization(value: SecretStr) -> SecretStr:
    """The value of an `Authorization` header, or empty."""
    if not re.fullmatch(r"([!-~]([ -~]{0,4094}[!-~])?)?", value.get_secret_value()):
        raise ValueError("must be printable ASCII, as in `Bearer KEY`, 4096 characters at most")
    return value


def _is_http_url(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        place = parts.hostname and parts.port != 0
    except ValueError:
        return False
    sound = re.fullmatch(r"[!-~]+", url) and not set(url) & set('#"<>\\^`|')
    return bool(place and sound) and parts.scheme in schemes and "@" not in parts.netloc


def parse_list(value: Any) -> Any:
    """A text that is a JSON list as that list; anything else as it is, for its type to be told."""
    if isinstance(value, str):
        with suppress(ValueError):
            return json.loads(value)
    return value


def check_api_key(key: SecretStr) -> SecretStr:
    """A key long enough not to be guessed, that can stand in a header."""
    if not re.fullmatch(r"[!-~]{16,1024}", key.get_secret_value()):
        raise ValueError("must have at least 16 characters, printable ASCII without spaces")
    return key


def check_secret(secret: SecretStr) -> SecretStr:
    """An HS256 secret, or empty."""
    if 0 < len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"must have at least {MIN_SECRET_BYTES} bytes")
    return secret


def check_name(name: str) -> str:
    """A pod name, or empty."""
    try:
        return check_pod_name(name) if name else name
    except InvalidNameError as error:
        raise ValueError(error.reason) from None


def check_proxies(trusted: tuple[str, ...]) -> tuple[str, ...]:
    """Addresses and CIDRs."""
    ClientIPRule(trusted)
    return trusted


def contradictions(settings: Settings) -> Iterator[ConfigError]:
    """Every pair of settings that cannot both stand, named by the one that is more likely wrong."""
    if settings.pod.production and not settings.redis.url.get_secret_value():
        yield ConfigError("redis.url", "must be set with pod.production")
    yield from _listeners(settings)
    yield from _keys(settings)
    yield from _categories(settings)
    yield from _times(settings)
    yield from _sizes(settings)
    if settings.exposure.sink == "pubsub" and not _TOPIC.fullmatch(settings.exposure.topic):
        yield ConfigError("exposure.topic", "must be projects/PROJECT/topics/TOPIC for the sink pubsub")
    if settings.consume.source == "pubsub" and not _SUBSCRIPTION.fullmatch(settings.consume.subscription):
        yield ConfigError(
            "consume.subscription",
            "must be projects/PROJECT/subscriptions/SUBSCRIPTION for the source pubsub",
        )


def _listeners(settings: Settings) -> Iterator[ConfigError]:
    server, admin = settings.server, settings.admin
    if settings.development:
        for section, host in (("server", server.host), ("admin", admin.host)):
            if not _is_loopback(host):
                yield ConfigError(f"{section}.host", "must be a loopback address unless redis.url is set")
    if not _is_loopback(admin.host) and not admin.api_keys:
        yield ConfigError("admin.api_keys", "must not be empty unless admin.host is a loopback address")
    if server.port == admin.port != 0 and server.host == admin.host:
        yield ConfigError("admin.port", "must not be that of server.port")
    for name, other in (("certfile", "keyfile"), ("keyfile", "certfile")):
        if getattr(server, other) and not getattr(server, name):
            yield ConfigError(f"server.{name}", f"must be set with server.{other}")
    if server.reuse_port and not settings.pod.name:
        # The name by default is host and port, so pods that share a port would take over each other.
        yield ConfigError("pod.name", "must be set, another for each pod, with server.reuse_port")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _keys(settings: Settings) -> Iterator[ConfigError]:
    auth = settings.auth
    if "HS256" in auth.algorithms and not settings.development and not auth.secret.get_secret_value():
        yield ConfigError("auth.secret", f"must be set, {MIN_SECRET_BYTES} bytes or more, with redis.url")
    if set(auth.algorithms) - {"HS256"} and not auth.public_key_file and not auth.jwks_url:
        yield ConfigError(
            "auth.public_key_file", f"or auth.jwks_url must be set for {', '.join(auth.algorithms)}"
        )
    if auth.jwks_ca_file and not auth.jwks_url:
        yield ConfigError("auth.jwks_ca_file", "is set, but auth.jwks_url is not")
    if auth.jwks_max_stale_s < auth.jwks_refresh_s:
        yield ConfigError("auth.jwks_max_stale_s", "must be at least auth.jwks_refresh_s")


def _categories(settings: Settings) -> Iterator[ConfigError]:
    categories = settings.categories
    if categories.source == "http" and not categories.url:
        yield ConfigError("categories.url", "must be set for the source http")
    if categories.source != "http":
        for name in ("url", "authorization", "ca_file"):
            if getattr(categories, name):
                yield ConfigError(f"categories.{name}", "is set, but categories.source is not http")
    elif categories.timeout_ms >= settings.limits.handshake_timeout_s * 1000:
        yield ConfigError("categories.timeout_ms", "must be less than limits.handshake_timeout_s")


def _times(settings: Settings) -> Iterator[ConfigError]:
    if settings.redis.timeout_ms * 3 >= settings.pod.lease_ms:
        yield ConfigError("redis.timeout_ms", "must be less than a third of pod.lease_ms")
    if settings.content.ttl_s > settings.content.max_ttl_s:
        yield ConfigError("content.ttl_s", "must be at most content.max_ttl_s")
    if settings.drain.timeout_s <= settings.drain.spread_s:
        yield ConfigError("drain.timeout_s", "must be more than drain.spread_s")


def _sizes(settings: Settings) -> Iterator[ConfigError]:
    room = min(settings.delivery.window_bytes, settings.content.cache_bytes)
    if settings.content.max_bytes > room:
        yield ConfigError("content.max_bytes", "must fit delivery.window_bytes and content.cache_bytes")
