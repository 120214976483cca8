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


@pytest.mark.gen_test
async def test_with_redis_away_this_pods_figures_are_answered_still() -> None:
    async with desk() as at:
        at.users.trouble = StoreUnavailableError("away", "")
        assert (await at.get("/v1/pods")).json["error"]["kind"] == "away"
        assert (await at.get("/v1/stats")).status == 200
