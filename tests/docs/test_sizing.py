"""What Redis keeps in `docs/sizing.md`, measured again; costs that pages take from the measured ones."""

from __future__ import annotations

import re
from collections import defaultdict

import pytest

from tests.docs.blocks import ROOT
from tests.engines.redis_server import RedisServer
from tests.pod import Pod, running_pod, settings

ROW = re.compile(r"^\| `([\w:{}]+)` \| (\d+) \|", re.MULTILINE)
OFF = 0.2
"""Allocators and versions of Redis differ by some bytes."""
ONE, MANY = "user-000001", "user-000002"


async def measured(pod: Pod) -> list[tuple[str, str]]:
    """(key of the page, key in Redis), in the order of the page."""
    one = await pod.send(ONE, "x" * 148)
    for _ in range(100):
        await pod.send(MANY, "x" * 148)
    await pod.app.users.set_categories(ONE, {"vip": ("3",), "level": ("7",), "hall": ("h1",)})
    there = await pod.connect("user-000003")
    await there.until("live")
    return [
        ("inbox:{U}", f"ps:inbox:{{{ONE}}}"),
        ("inbox:{U}", f"ps:inbox:{{{MANY}}}"),
        ("seq:{U}", f"ps:seq:{{{ONE}}}"),
        ("seen:{U}", f"ps:seen:{{{ONE}}}"),
        ("seen:{U}", f"ps:seen:{{{MANY}}}"),
        ("msg:ID", f"ps:msg:{one}"),
        ("publish:{ps:msg:ID}", f"ps:publish:{{ps:msg:{one}}}"),
        ("presence:{U}", "ps:presence:{user-000003}"),
        ("cursor:{U}", "ps:cursor:{user-000003}"),
        ("categories:{U}", f"ps:categories:{{{ONE}}}"),
    ]


FIGURES = {
    "CPU of a verified connect to its `live` frame": {"README.md": "160 us", "docs/sizing.md": "160 us"},
    "resident memory of an idle connection of 19 000 in one process": {
        "README.md": "1.9 kB",
        "docs/sizing.md": "1.9 kB",
        "docs/deploying.md": "1.9 kB",
    },
    "CPU of a message that waited, until it is settled and exposed": {
        "README.md": "20 us",
        "docs/sizing.md": "20 us",
    },
    "CPU of a message of a batch, until it is settled and exposed": {
        "README.md": "130 us",
        "docs/sizing.md": "130 us",
    },
    "CPU of a message by itself, 32 requests at once": {"docs/sizing.md": "300 us"},
    "CPU of a delivery to 1000": {"docs/sizing.md": "9 us"},
    "CPU of a confirm with exposure and cursor, of 1000": {"docs/sizing.md": "75 us"},
}
SCALE = {"us": 1, "ms": 1000, "B": 1, "kB": 1000}
DRIFT = 0.3
"""What two sittings differ by; beyond it the pages are to be brought up to date."""


def number(text: str) -> float:
    """A figure in microseconds, or in bytes."""
    value, _, unit = text.rpartition(" ")
    return float(value.replace(" ", "")) * SCALE[unit]


@pytest.mark.parametrize("row", FIGURES)
def test_a_cost_that_is_named_elsewhere_is_the_measured_one(row: str) -> None:
    performance = (ROOT / "docs/performance.md").read_text()
    found = re.search(rf"^\| {re.escape(row)} \| ([^|]+) \|", performance, re.MULTILINE)
    assert found, "no such figure any more"
    for page, said in FIGURES[row].items():
        assert said in (ROOT / page).read_text(), page
        assert abs(number(said) / number(found[1]) - 1) < DRIFT, page


@pytest.mark.gen_test
async def test_a_key_has_about_the_bytes_of_the_page(redis_server: RedisServer) -> None:
    said = defaultdict[str, list[int]](list)
    for key, size in ROW.findall((ROOT / "docs/sizing.md").read_text()):
        said[key].append(int(size))
    async with running_pod(settings(redis_server.url)) as pod:
        keys = await measured(pod)
        assert sum(map(len, said.values())) == len(keys)
        with redis_server.client() as redis:
            found = [(page, redis.memory_usage(key, samples=0) or 0) for page, key in keys]
    off = [(key, size) for key, size in found if abs(size - said[key].pop(0)) > OFF * size]
    assert off == []
