"""Tokens that run out, or are renewed, while their connection is open."""

from __future__ import annotations

import time

import pytest

from pushserver.core.close_codes import CloseCode
from tests.engines.engine import Engine
from tests.pod import eventually
from tests.system.stage import stage, together

pytestmark = pytest.mark.system

TTL_S = 3.0
LATE_S = 0.25 + 2.5
"""A tick of the wheel, and room for a busy machine."""


@pytest.mark.gen_test(timeout=60)
async def test_a_connection_ends_with_its_token_unless_it_is_refreshed(any_engine: Engine) -> None:
    async with stage(any_engine, auth={"leeway_s": 0}) as on:
        pod = await on.pods.start("pod-1")
        bystander = await on.bystander(pod)
        began = time.monotonic()
        expires, refreshed, foreign = await together(
            *(on.live(pod, user, ttl_s=TTL_S) for user in ("expires", "refreshed", "foreign"))
        )
        await refreshed.client.send({"type": "refresh", "token": pod.token("refreshed")})
        await eventually(lambda: [frame["type"] for frame in refreshed.frames].count("welcome") == 2)
        first, second = (frame for frame in refreshed.frames if frame["type"] == "welcome")
        assert second["expires"] > first["expires"] + 500
        assert second["connection"] == first["connection"]

        await foreign.client.send({"type": "refresh", "token": pod.token("expires")})
        closed = await foreign.ended()
        assert (closed.code, closed.reason) == (CloseCode.NOT_AUTHENTICATED, "token is for another user")
        assert time.monotonic() - began < TTL_S

        closed = await expires.ended()
        assert (closed.code, closed.reason) == (CloseCode.NOT_AUTHENTICATED, "token expired")
        assert TTL_S <= time.monotonic() - began < TTL_S + LATE_S
        await eventually(lambda: set(on.everyone()) == {"bystander", "refreshed"})

        ids = await on.backend.send_many("refreshed", 3)
        await eventually(lambda: refreshed.ids == ids)
        await on.settled("refreshed")
        await refreshed.leave(quiet=True)
        await bystander.was_unharmed()
