"""What a connect, a delivery and its settling ask of Redis does not grow with what is there already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine

import pytest

from tests.client import Client
from tests.engines.redis_server import RedisServer
from tests.pod import Pod, eventually, running_pod, settings

SOME = 20
MANY_CONNECTIONS = 300
MANY_USERS = 20_000
"""Whose presence and inboxes are in Redis, and who are connected nowhere here."""

BACKGROUND = {"xread", "info", "time", "hello", "script|load", "client|setinfo"}
"""What follows and asks all the time, whether something happens or not."""

QUIET = {
    "inbox": {"rescan_s": 0},
    "pod": {"lease_ms": 600_000},
    "limits": {"connections_per_ip": 0, "handshakes_per_s": 0},
}


async def _calls(pod: Pod) -> Counter[str]:
    text: bytes = await pod.app.stores.commands.call("INFO", "commandstats")
    calls: Counter[str] = Counter()
    for line in text.decode().splitlines():
        name, _, rest = line.removeprefix("cmdstat_").partition(":calls=")
        if rest and name not in BACKGROUND:
            calls[name] = int(rest.partition(",")[0])
    return calls


async def _asked_by(pod: Pod, work: Callable[[], Coroutine[None, None, object]]) -> Counter[str]:
    """Calls of each command, those inside scripts included, while `work` runs."""
    before = await _calls(pod)
    await work()
    return await _calls(pod) - before


class Growing:
    """A pod on which the same is done over and over, with ever more around it."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._clients: dict[str, Client] = {}

    async def connects(self, count: int) -> None:
        """So many new users, one after the other, each until it is live."""
        users = [f"user-{len(self._clients) + number}" for number in range(count)]
        for user in users:
            client = self._clients[user] = await self._pod.connect(user)
            await client.until("live")

    async def delivers(self) -> None:
        """One message to each of the first users, until all are settled."""
        some = list(self._clients.items())[:SOME]
        for user, client in some:
            await self._pod.send(user, "x")
            await client.messages(1)
            # The pong to the ping behind it is sent while the next frame is waited for.
            await client.send({"type": "ping"})
            await client.until("pong")
            await eventually(lambda: self._pod.app.settler.waiting == 0)
        assert [await self._pod.inbox(user) for user, _ in some] == [[]] * SOME

    async def fill(self) -> None:
        """Presence and inboxes of users of other pods."""
        call = self._pod.app.stores.commands.call
        script = """
            for n = 1, tonumber(ARGV[1]) do
                redis.call('HSET', 'ps:presence:{away-' .. n .. '}', 'away-' .. n .. ':pod-9', '{"boot":1}')
                redis.call('RPUSH', 'ps:inbox:{away-' .. n .. '}', 'm-1', 'm-2')
            end
        """
        await call("EVAL", script, 0, MANY_USERS)


@pytest.mark.gen_test(timeout=60)
async def test_a_connect_a_delivery_and_its_settling_ask_the_same_of_redis_however_many_are_there(
    redis_server: RedisServer,
) -> None:
    async with running_pod(settings(redis_server.url, **QUIET)) as pod:
        on = Growing(pod)
        await on.connects(1)  # scripts are taught once
        few_connects = await _asked_by(pod, lambda: on.connects(SOME))
        await on.delivers()
        few_deliveries = await _asked_by(pod, on.delivers)
        await on.fill()
        await on.connects(MANY_CONNECTIONS)
        many_connects = await _asked_by(pod, lambda: on.connects(SOME))
        many_deliveries = await _asked_by(pod, on.delivers)
    assert many_connects == few_connects
    assert many_deliveries == few_deliveries
    assert few_connects["evalsha"] >= SOME
    assert few_deliveries["lrem"] == SOME
    assert few_deliveries["rpush"] == SOME
