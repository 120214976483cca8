"""Settings as TOML, without the secrets in them."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import SecretStr

from pushserver.config import Settings
from pushserver.logs import MASKED

__all__ = ["as_toml"]

# `config_checks.check_url` sees to it that a user and a password end where they seem to.
_URL_USER = re.compile(r"(?<=://)[^/?#]*(?=@)")
# Of Redis, its sentinels, and PostgreSQL (`sslpassword`, for the key of a certificate).
_URL_PASSWORD = re.compile(r"(?<=password=)[^&]*", re.IGNORECASE)


def as_toml(settings: Settings) -> str:
    """Every setting in its section; behind one that is not the default stands where it comes from."""
    sections = (_section(settings, name) for name in type(settings).model_fields)
    return "\n\n".join(sections)


def _section(settings: Settings, section: str) -> str:
    lines = [f"[{section}]"]
    for name, value in getattr(settings, section):
        origin = settings.origin_of(section, name)
        comment = "" if origin == "default" else f"  # {_escaped(origin)}"
        lines.append(f"{name} = {_toml(value, is_url=name.endswith('url'))}{comment}")
    return "\n".join(lines)


def _toml(value: Any, *, is_url: bool = False) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, SecretStr):
        value = _masked(value.get_secret_value(), is_url)
    if isinstance(value, bool):
        return "true" if value else "false"
    return _escaped(json.dumps(value, ensure_ascii=False))


def _masked(secret: str, is_url: bool) -> str:
    """Nothing of a secret; of a URL everything but user and password."""
    if is_url:
        return _URL_PASSWORD.sub(MASKED, _URL_USER.sub(MASKED, secret))
    return MASKED if secret else ""


def _escaped(text: str) -> str:
    """`text` with the escapes of TOML for what a terminal would obey."""
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}"
