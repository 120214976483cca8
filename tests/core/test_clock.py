"""Redis' time, kept by this host's monotonic clock."""

from __future__ import annotations

import time

import pytest

from pushserver.core.clock import StoreClock


class Host:
    """This host's clocks, in seconds."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.wall = 1_700_000_000.0
        self.monotonic = 5000.0
        patch.setattr(time, "time", lambda: self.wall)
        patch.setattr(time, "monotonic", lambda: self.monotonic)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_the_clock_tells_this_hosts_time_until_redis_has_told_its_own(host: Host) -> None:
    clock = StoreClock()
    assert clock.now_ms() == 1_700_000_000_000
    assert clock.now_s() == pytest.approx(1_700_000_000.0)


def test_after_an_adjustment_the_clock_goes_on_from_redis_time(host: Host) -> None:
    clock = StoreClock()
    clock.adjust(1_600_000_000_000)
    host.monotonic += 2.5
    assert clock.now_ms() == 1_600_000_002_500
    assert clock.now_s() == pytest.approx(1_600_000_002.5)


@pytest.mark.parametrize("jump_s", [-600.0, 600.0])
def test_a_jump_of_the_hosts_wall_clock_moves_nothing(host: Host, jump_s: float) -> None:
    clock = StoreClock()
    clock.adjust(1_600_000_000_000)
    host.wall += jump_s
    assert clock.now_ms() == 1_600_000_000_000


def test_each_adjustment_replaces_the_one_before_also_backwards(host: Host) -> None:
    clock = StoreClock()
    clock.adjust(1_600_000_000_000)
    host.monotonic += 5
    clock.adjust(1_600_000_004_000)
    assert clock.now_ms() == 1_600_000_004_000
