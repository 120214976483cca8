"""What the package requires: never a version of a library with a hole that is known and closed."""

from __future__ import annotations

import configparser
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

SETUP = Path(__file__).parent.parent / "setup.cfg"

CLOSED_IN = {
    # 6.6.0: unread pings, floods of small frames, open redirects; 6.6.1: quadratic percent-decoding.
    "tornado": "6.6.1",
    # CVE-2026-32597 (unknown `crit`, 2.12) and CVE-2026-48523 (allow-list passed by for a PyJWK, 2.13).
    "PyJWT": "2.13",
    # CVE-2023-28858 and 28859: after a cancelled command, replies of others (4.5.5).
    "redis": "4.5.5",
}


def required() -> dict[str, Requirement]:
    """What `setup.cfg` requires, by name."""
    parser = configparser.ConfigParser()
    parser.read(SETUP)
    lines = parser["options"]["install_requires"].split()
    return {one.name: one for one in map(Requirement, lines)}


@pytest.mark.parametrize("name, closed_in", CLOSED_IN.items())
def test_no_version_with_a_known_hole_satisfies_the_requirement(name: str, closed_in: str) -> None:
    least = [Version(one.version) for one in required()[name].specifier if one.operator == ">="]
    assert least
    assert max(least) >= Version(closed_in)
    assert Version(version(name)) >= Version(closed_in)


def test_everything_that_is_required_has_a_least_version() -> None:
    assert [name for name, one in required().items() if ">=" not in str(one.specifier)] == []
