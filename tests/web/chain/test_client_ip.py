"""Whose address it is, noted in `Context.Keys`."""

from __future__ import annotations

import pytest

from pushserver.web.chain import CLIENT_IP
from pushserver.web.chain.client_ip import client_ip
from tests.web.chain.contexts import run

FORWARDED = [("X-Forwarded-For", "203.0.113.9, 198.51.100.7")]


@pytest.mark.gen_test
async def test_the_address_is_the_peers_when_nobody_is_trusted() -> None:
    ctx = await run(client_ip, peer="192.0.2.1", headers=FORWARDED)
    assert ctx.keys[CLIENT_IP] == "192.0.2.1"


@pytest.mark.gen_test
async def test_the_address_is_the_one_a_trusted_proxy_tells() -> None:
    ctx = await run(client_ip, peer="192.0.2.1", headers=FORWARDED, trusted=["192.0.2.0/24"])
    assert ctx.keys[CLIENT_IP] == "198.51.100.7"
