"""What the benchmark counts and reckons with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "scripts" / "bench"
MESSAGE = b'{"type":"message","id":"a"}'


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """A module of the benchmark, which finds its neighbours by their bare names."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(FOLDER)
    yield __import__(request.param)
    for name in set(sys.modules) - before:
        if FOLDER.name in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def text(payload: bytes) -> bytes:
    head = bytes((len(payload),)) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2)
    return b"\x81" + head + payload


@pytest.mark.parametrize("module", ["crowd"], indirect=True)
def test_the_crowd_counts_messages_and_nothing_else(module: ModuleType) -> None:
    long = b'{"type":"message","content":"' + b"x" * 300 + b'"}'
    read = module.parse(text(MESSAGE) + text(b'{"type":"live"}') + text(b'{"type":"pong"}') + text(long))
    assert (read.messages, read.live, read.pings, read.rest) == (2, True, 0, b"")


@pytest.mark.parametrize("module", ["crowd"], indirect=True)
def test_a_frame_that_is_not_complete_is_kept_and_not_counted(module: ModuleType) -> None:
    whole = text(MESSAGE)
    for cut in range(len(whole)):
        read = module.parse(whole + whole[:cut])
        assert (read.messages, read.rest) == (1, whole[:cut])
        assert module.parse(read.rest + whole[cut:]).messages == 1


@pytest.mark.parametrize("module", ["crowd"], indirect=True)
def test_each_ping_is_answered_with_its_payload_masked(module: ModuleType) -> None:
    read = module.parse(b"\x89\x02ab" + text(MESSAGE) + b"\x89\x01c")
    assert (read.pings, read.pongs) == (2, b"\x8a\x82\0\0\0\0ab\x8a\x81\0\0\0\0c")


def scrape(low: float, high: float) -> dict[str, float]:
    return {
        'lag_bucket{le="0.01"}': low,
        'lag_bucket{le="0.05"}': low + high,
        'lag_bucket{le="+Inf"}': low + high,
    }


@pytest.mark.parametrize("module", ["pods"], indirect=True)
def test_a_quantile_is_of_what_came_between_two_scrapes_of_all_pods(module: ModuleType) -> None:
    pods = [(scrape(1000, 0), scrape(1050, 0)), (scrape(0, 7), scrape(0, 57))]
    assert module.quantile(pods, "lag", 0.5) == pytest.approx(0.01)
    assert module.quantile(pods, "lag", 0.75) == pytest.approx(0.03)


@pytest.mark.parametrize("module", ["pods"], indirect=True)
def test_a_quantile_of_nothing_is_none(module: ModuleType) -> None:
    assert module.quantile([(scrape(1, 1), scrape(1, 1))], "lag", 0.99) == 0
