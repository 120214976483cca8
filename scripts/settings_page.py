"""Writes docs/settings.md: every setting as `config.py` has it and `conf/pushserver.toml` explains it.

.venv/bin/python scripts/settings_page.py
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pushserver.config import Settings
from pushserver.reload import RELOADABLE

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "conf" / "pushserver.toml"
PAGE = ROOT / "docs" / "settings.md"

HEAD = """# Settings

Made from the program and [conf/pushserver.toml](../conf/pushserver.toml) by `scripts/settings_page.py`;
change those.

A setting comes from the last of these that names it: its default, a file (`--config FILE` or
`$PUSHSERVER_CONFIG`), the environment (`PUSHSERVER_SERVER__PORT=9000`), a flag (`--set server.port=9000`). A
list is TOML in the file and JSON elsewhere (`PUSHSERVER_PROXY__TRUSTED='["10.0.0.0/8"]'`). Anything unknown
or out of its bounds stops the start and is named. `pushserver check-config` shows what is in force and where
it comes from. What is marked "yes" under SIGHUP is applied by a reload, without a restart
([operations.md](operations.md)).
"""

# By the ends of names, the longest first. A test of the settings holds that durations and sizes have one.
UNITS = {"_per_s": "a second", "_ms": "ms", "_s": "s", "_bytes": "bytes"}

NO_BOUND = 2**31 - 1
"""What a count has for a bound where none is meant."""


def page() -> str:
    """The whole page."""
    meanings = _meanings(SHIPPED.read_text())
    defaults = tomllib.loads(SHIPPED.read_text())
    schema = Settings.model_json_schema()
    return HEAD + "".join(
        _section(section, schema["$defs"][type(settings).__name__], defaults[section], meanings)
        for section, settings in Settings()
    )


def _section(
    section: str, schema: Mapping[str, Any], defaults: Mapping[str, Any], meanings: Mapping[str, str]
) -> str:
    rows = [
        _row(
            name,
            _type(field),
            _default(defaults[name]),
            _unit(name),
            _reload(section, name),
            meanings[f"{section}.{name}"],
        )
        for name, field in schema["properties"].items()
    ]
    head = "| setting | type | default | unit | SIGHUP | meaning |\n| --- | --- | --- | --- | --- | --- |\n"
    return f"\n## {section}\n\n{schema['description']}\n\n{head}{''.join(rows)}"


def _row(name: str, *columns: str) -> str:
    return f"| `{name}` | {' | '.join(columns)} |\n".replace("|  ", "| ")


def _type(field: Mapping[str, Any]) -> str:
    if field["type"] == "array":
        return f"list: {_type(field['items'])}"
    if "enum" in field:
        return "one of " + ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field["type"] == "string":
        return "text, secret" if field.get("writeOnly") else "text"
    word = {"integer": "integer", "number": "number", "boolean": "true or false"}[field["type"]]
    return word + _bounds(field)


def _bounds(field: Mapping[str, Any]) -> str:
    least, most = field.get("minimum"), field.get("maximum")
    if least is None and "exclusiveMinimum" in field:
        return f", above {field['exclusiveMinimum']:g}, up to {_number(field['maximum'])}"
    if least is None:
        return ""
    if most is None or most == NO_BOUND:
        return f", {_number(least)} or more"
    return f", {_number(least)} to {_number(most)}"


def _number(value: float) -> str:
    return f"{int(value)}" if value == int(value) else f"{value}"


def _default(value: Any) -> str:
    return f"`{json.dumps(value)}`"


def _unit(name: str) -> str:
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "")


def _reload(section: str, name: str) -> str:
    return "yes" if (section, name) in RELOADABLE else ""


def _meanings(text: str) -> dict[str, str]:
    """The comment right above each setting, on one line, by `section.name`."""
    return dict(_explained(text))


def _explained(text: str) -> Iterator[tuple[str, str]]:
    section, comment = "", list[str]()
    for line in text.splitlines():
        if line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
            continue
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section = heading[1]
        elif name := re.match(r"(\w+) = ", line):
            yield f"{section}.{name[1]}", " ".join(comment).replace("|", "\\|")
        comment = []


if __name__ == "__main__":
    PAGE.write_text(page())
