"""Pods."""

from __future__ import annotations

import pytest

from pushserver.core.errors import StoreUnavailableError
from tests.web.admin.desk import desk


@pytest.mark.gen_test
async def test_the_cluster_and_this_pod_are_told() -> None:
    async with desk() as at:
        assert (await at.get("/v1/pods")).json == {"pods": await at.users.pods()}
        assert (await at.get("/v1/stats")).json == {"pod": "pod-1"}
        counts = [{"kind": "vip", "values": 1, "top": [{"value": "3", "connections": 2}]}]
        assert (await at.get("/v1/categories")).json == {"categories": counts}
        assert (await at.get("/v1/exposures")).json == {"sink": "stream", "waiting": 3, "max": 100}


@pytest.mark.gen_test
async def test_with_redis_away_this_pods_figures_are_answered_still() -> None:
    async with desk() as at:
        at.users.trouble = StoreUnavailableError("away", "")
        assert (await at.get("/v1/pods")).json["error"]["kind"] == "away"
        assert (await at.get("/v1/exposures")).json["error"]["kind"] == "away"
        for path in ("/v1/stats", "/v1/categories"):
            assert (await at.get(path)).status == 200
