"""`docs/settings.md` is what its script makes."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = ".venv/bin/python scripts/settings_page.py"


def test_the_page_of_settings_is_what_the_program_and_its_file_say() -> None:
    made = runpy.run_path(str(ROOT / "scripts/settings_page.py"))["page"]()
    assert (ROOT / "docs/settings.md").read_text() == made, f"run {COMMAND}"


def test_every_setting_is_on_it_once_with_its_default_and_unit() -> None:
    rows = [line for line in (ROOT / "docs/settings.md").read_text().splitlines() if line.startswith("| `")]
    assert sum(row.startswith("| `jwks_refresh_s` | number, 1 to 86400 | `300` | s | |") for row in rows) == 1
    assert sum(row.startswith('| `secret` | text, secret | `""` | | yes |') for row in rows) == 1
    assert all(len(row.replace("\\|", "").split("|")) == 8 for row in rows), "a row of another form"
    assert all(row.rsplit(" | ", 1)[1].strip(" |") for row in rows), "a setting without a meaning"
