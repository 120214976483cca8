"""Reading settings: from a file, the environment and flags, checked together.

A setting comes from the last of these that names it: its default, the TOML file, the environment
(`PUSHSERVER_SECTION__NAME`), the environment file with lines of the same (`PUSHSERVER_ENV_FILE`), a flag
(`--set section.name=value`). In the environment and in flags a text stands as it is and a list as JSON
(`["10.0.0.0/8"]`).

The environment file is for secrets that are to be changed while the pod runs: no process sees its own
environment change, and whoever started it by such a file has handed it an old copy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic import TypeAdapter, ValidationError
from pydantic_settings import TomlConfigSettingsSource

from pushserver.config import Settings
from pushserver.config_checks import contradictions
from pushserver.core.errors import ConfigError

__all__ = ["load"]

_ENVIRONMENT = "PUSHSERVER_"
_CONFIG_VARIABLE = "PUSHSERVER_CONFIG"
_FILE_VARIABLE = "PUSHSERVER_ENV_FILE"
# What Kubernetes sets in every pod beside Services whose names begin with `pushserver`.
_SERVICE_LINK = re.compile(
    r"PUSHSERVER_(?!.*__.*=)(\w+_)?"
    r"(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=.*|PORT(_\d+_(TCP|UDP|SCTP))?=\w+://.*|"
    r"PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*)"
)
_REASONS = {
    "extra_forbidden": "is not a setting",
    "model_type": "is a section, not a setting",
    "tuple_type": 'must be a list, such as ["a", "b"]',
}

Name = tuple[str, ...]
"""(section, name), or whatever was given in its place."""

# Bare types, for reading a text leniently; bounds and forms are checked strictly, like a file's values.
_TYPES: dict[Name, Any] = {
    (section, name): field.annotation
    for section, settings in Settings()
    for name, field in type(settings).model_fields.items()
}


def load(config_file: str, flags: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Read and check every setting. `flags` are texts `section.name=value`.

    `config_file` empty: the file that `$PUSHSERVER_CONFIG` names, if any. Raises an `ExceptionGroup` of
    `ConfigError`, one for each wrong or unknown setting, whose texts hold no value that was given.
    """
    values: dict[Name, Any] = {}
    origins: dict[Name, str] = {}
    file, env_file = config_file or environ.get(_CONFIG_VARIABLE, ""), environ.get(_FILE_VARIABLE, "")
    sources = {
        f"file {file}": _from_file(file) if file else {},
        "environment": _typed(_from_environment(environ)),
        f"environment file {env_file}": _typed(_from_environment(_environment_of(env_file))),
        "flag": _typed(_from_flags(flags)),
    }
    for origin, given in sources.items():
        values |= given
        origins |= dict.fromkeys(given, origin)
    settings = _checked(values, origins)
    settings.remember_origins(origins)
    return settings


def _checked(values: Mapping[Name, Any], origins: Mapping[Name, str]) -> Settings:
    problems = [
        _problem(path, "is not a setting", origins) for path in values if path[0] not in Settings.model_fields
    ]
    try:
        settings = Settings(**_by_section(values))
    except ValidationError as error:
        problems += [_problem(detail["loc"], _reason(detail), origins) for detail in error.errors()]
    else:
        problems += contradictions(settings)
    if problems:
        raise ExceptionGroup("wrong settings", problems)
    return settings


def _by_section(values: Mapping[Name, Any]) -> dict[str, Any]:
    sections: dict[str, Any] = {}
    for (section, *name), value in sorted(values.items(), key=lambda item: len(item[0])):
        # Only sections that are known: pydantic-settings takes some arguments (`_env_file`) for itself.
        if section in Settings.model_fields:
            if not name:
                sections[section] = value
            elif isinstance(known := sections.setdefault(section, {}), dict):
                known[name[0]] = value
    return sections


def _problem(where: Sequence[str | int], reason: str, origins: Mapping[Name, str]) -> ConfigError:
    path = tuple(str(part) for part in where[:2])
    item = f"item {where[2] + 1}: " if len(where) > 2 and isinstance(where[2], int) else ""
    origin = origins.get(path) or origins.get(path[:1], "")
    return ConfigError(".".join(path), f"{item}{reason}" + (f" ({origin})" if origin else ""))


def _reason(detail: Any) -> str:
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return _REASONS.get(detail["type"]) or str(detail["msg"]).removeprefix("Input ").removeprefix("String ")


def _from_file(file: str) -> dict[Name, Any]:
    try:
        # The source takes a file that is not there for an empty one.
        Path(file).open("rb").close()
        raw = TomlConfigSettingsSource(Settings, Path(file))()
    except (OSError, ValueError) as error:
        raise ExceptionGroup("wrong settings", [ConfigError(file, f"cannot be read: {error}")]) from None
    return _flat(raw)


def _from_environment(environ: Mapping[str, str]) -> dict[Name, str]:
    return {
        tuple(name.removeprefix(_ENVIRONMENT).lower().split("__", 1)): value
        for name, value in environ.items()
        if name.startswith(_ENVIRONMENT)
        and name not in {_CONFIG_VARIABLE, _FILE_VARIABLE}
        and not _SERVICE_LINK.fullmatch(f"{name}={value}")
    }


def _environment_of(file: str) -> dict[str, str]:
    """The variables in a file of lines NAME=VALUE, as systemd has them; none without a file."""
    variables: dict[str, str] = {}
    try:
        text = Path(file).read_text("utf-8") if file else ""
    except (OSError, ValueError) as error:
        raise ExceptionGroup("wrong settings", [ConfigError(file, f"cannot be read: {error}")]) from None
    for line in parse_stream(StringIO(text)):
        if line.error or (line.key is not None and line.value is None):
            # Without the line itself: it may hold a secret.
            reason = f"line {line.original.line} is not NAME=VALUE"
            raise ExceptionGroup("wrong settings", [ConfigError(file, reason)])
        if line.key is not None:
            variables[line.key] = line.value or ""
    return variables


def _from_flags(flags: Sequence[str]) -> dict[Name, str]:
    if not all("=" in flag for flag in flags):
        raise ExceptionGroup("wrong settings", [ConfigError("--set", "must be section.name=value")])
    pairs = (flag.split("=", 1) for flag in flags)
    return {tuple(name.split(".", 1)): value for name, value in pairs}


def _typed(texts: Mapping[Name, str]) -> dict[Name, Any]:
    """Texts as the types of their settings where they are one; the others stay, to be refused."""
    values: dict[Name, Any] = dict(texts)
    for name in texts.keys() & _TYPES.keys():
        with suppress(ValidationError):
            values[name] = TypeAdapter(_TYPES[name]).validate_python(texts[name])
    return values


def _flat(raw: Mapping[str, Any]) -> dict[Name, Any]:
    flat: dict[Name, Any] = {}
    for section, content in raw.items():
        if isinstance(content, dict):
            flat |= {(section, name): value for name, value in content.items()}
        else:
            flat[(section,)] = content
    return flat
