"""Results that are kept: the latest, so many, and told by a metric."""

from __future__ import annotations

import pytest

from pushserver.core import cached as cached_module
from pushserver.core.cached import KEPT, cached
from pushserver.core.metrics import Metrics
from pushserver.core.server_frames import live_frame


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setattr(cached_module, "_kept", dict(KEPT))
    return []


def test_the_latest_results_are_kept_and_no_more_than_said(calls: list[int]) -> None:
    @cached("doubles", 2)
    def double(number: int) -> int:
        calls.append(number)
        return 2 * number

    assert double(1) == 2
    assert cached_module._kept["doubles"]() == 1
    assert [double(number) for number in (2, 1, 2, 3, 2)] == [4, 2, 4, 6, 4]
    assert calls == [1, 2, 3]
    assert cached_module._kept["doubles"]() == 2
    double(1)
    assert calls == [1, 2, 3, 1]


def test_every_cache_of_a_pod_has_its_size_in_the_metrics() -> None:
    import pushserver.server  # noqa: F401, PLC0415 - loads them

    live_frame(delivered=0, expired=0, evicted=0, parked=0, gap=False)
    registry = Metrics().registry
    assert KEPT["live_frames"]() > 0
    for name, kept in KEPT.items():
        assert registry.get_sample_value("pushserver_cached_results", {"cache": name}) == kept(), name
    assert set(KEPT) == {"category_values", "header_names", "live_frames", "peers", "runs"}
