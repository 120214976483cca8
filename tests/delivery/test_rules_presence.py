"""The rules of presence, leases and reaping, each held still at the moment that matters.

No rescan, but for rule 19: it would hide mistakes. The numbers are those of the protocol's model.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.engines.redis_server import RedisServer
from tests.gate import hold
from tests.pod import Pod, eventually, running_pod, settings

LEASE_MS = 60_000
"""No lease runs out by itself, however slow the machine: `expire` says when."""
REAPER_MS = 600
"""A reaper begins one lease of its own after its start."""


class Story:
    """Pods on one Redis, and what it says of alice and of `pod-1`."""

    def __init__(self, redis_server: RedisServer) -> None:
        self._url = redis_server.url
        self.redis = redis_server.client()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Story:
        self._stack.enter_context(self.redis)
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.aclose()

    async def start(self, name: str = "pod-1", *, lease_ms: int = LEASE_MS, rescan_s: float = 0) -> Pod:
        """A pod that leaves in order at the end, unless it was killed."""
        configured = settings(
            self._url, pod={"name": name, "lease_ms": lease_ms}, inbox={"rescan_s": rescan_s}
        )
        return await self._stack.enter_async_context(running_pod(configured))

    def boot(self, user: str = "alice", pod: str = "pod-1") -> int | None:
        """The boot in a presence field; None if there is none."""
        field = self.redis.hget(f"ps:presence:{{{user}}}", f"{user}:{pod}")
        return None if field is None else int(str(field).split('"boot":')[1].split(",")[0])

    def indexed(self, pod: str = "pod-1") -> set[str]:
        return {str(user) for user in self.redis.hkeys(f"ps:pod-users:{{{pod}}}")}

    def lease(self, pod: str = "pod-1") -> int | None:
        """The boot that holds a lease; None if nobody does."""
        boot = self.redis.hget(f"ps:pod:{{{pod}}}", "boot")
        return None if boot is None else int(boot)

    def expire(self) -> None:
        """The lease of `pod-1` has run out, as if no heartbeat had come in time."""
        self.redis.hset("ps:pod:{pod-1}", "expires", 1)
        self.redis.zadd("ps:pods", {"pod-1": 1})

    async def nothing_left(self) -> None:
        """Wait until nothing of `pod-1` and alice is left."""
        await eventually(lambda: self.boot() is None and not self.indexed() and self.lease() is None)


async def barrier(pod: Pod) -> None:
    """Whatever could have been sent by now was sent and answered, unless it is held."""
    for _ in range(3):
        await pod.app.stores.commands.call("PING")


async def lose_the_lease(story: Story, pod: Pod) -> None:
    """The lease, the index and the presence are gone, as after a reaping, and the pod learns of it now."""
    story.redis.delete("ps:pod:{pod-1}", "ps:pod-users:{pod-1}", "ps:presence:{alice}")
    pod.app.lease.check_soon()


# -- 13


@pytest.mark.gen_test
async def test_13_a_removal_under_way_never_lands_behind_the_write_of_who_came_back(
    redis_server: RedisServer,
) -> None:
    async with Story(redis_server) as story:
        pod = await story.start()
        client = await pod.connect("alice")
        await client.until("live")
        removal = hold(pod.app.stores.commands, "presence_remove")
        await client.close()
        await removal.reached.wait()
        back = await pod.connect("alice")
        await barrier(pod)
        removal.open()
        await back.until("live")
        await barrier(pod)
        assert story.boot() == 1
        assert story.indexed() == {"alice"}


# -- 14


@pytest.mark.gen_test
async def test_14_no_field_is_written_before_its_index_entry_was_answered(redis_server: RedisServer) -> None:
    """The pod is killed before the entry is sent: the reaper would never find the field."""
    async with Story(redis_server) as story:
        pod = await story.start()
        client = await pod.connect("alice")
        await client.until("live")
        entry = hold(pod.app.stores.commands, "index_add")
        await lose_the_lease(story, pod)
        await entry.reached.wait()
        await barrier(pod)
        assert story.boot() is None
        await pod.kill()
        entry.drop()
        story.expire()
        await story.start("pod-2", lease_ms=REAPER_MS)
        await story.nothing_left()


@pytest.mark.gen_test
async def test_14_on_a_connect_no_field_is_written_before_its_index_entry_was_answered(
    redis_server: RedisServer,
) -> None:
    async with Story(redis_server) as story:
        pod = await story.start()
        entry = hold(pod.app.stores.commands, "index_add", only=lambda arguments: "alice" in arguments)
        connecting = asyncio.ensure_future(pod.connect("alice"))
        await entry.reached.wait()
        await (await pod.connect("bob")).until("live")  # who came later is not held
        assert story.boot() is None
        entry.open()
        client = await connecting
        await client.until("live")
        assert story.indexed() == {"alice", "bob"}


@pytest.mark.gen_test
async def test_14_no_index_entry_is_removed_before_the_removal_of_its_field_was_answered(
    redis_server: RedisServer,
) -> None:
    """The pod is killed before the removal is sent: the reaper finds the field by the entry."""
    async with Story(redis_server) as story:
        pod = await story.start()
        client = await pod.connect("alice")
        await client.until("live")
        removal = hold(pod.app.stores.commands, "presence_remove")
        await client.close()
        await removal.reached.wait()
        await barrier(pod)
        assert story.indexed() == {"alice"}
        await pod.kill()
        removal.drop()
        assert story.boot() == 1
        story.expire()
        await story.start("pod-2", lease_ms=REAPER_MS)
        await story.nothing_left()


# -- 15 and 18


@pytest.mark.gen_test
async def test_15_and_18_a_reaper_removes_nothing_of_a_boot_newer_than_the_dead_one(
    redis_server: RedisServer,
) -> None:
    """The pod is back under its name, with alice, while its dead boot is being reaped. Then it dies again."""
    async with Story(redis_server) as story:
        reaper = await story.start("pod-2", lease_ms=REAPER_MS)
        dead = await story.start()
        client = await dead.connect("alice")
        await client.until("live")
        first = story.boot()
        step = hold(reaper.app.stores.commands, "presence_remove")
        await dead.kill()
        story.expire()
        await step.reached.wait()
        pod = await story.start()
        client = await pod.connect("alice")
        await client.until("live")
        second = story.boot()
        assert first is not None
        assert second is not None
        assert second > first
        step.open()
        await eventually(lambda: reaper.app.metrics.registry.get_sample_value("pushserver_pods_reaped_total"))
        assert story.boot() == second  # rule 15
        assert story.indexed() == {"alice"}  # rule 18
        assert story.lease() == second
        await pod.kill()
        story.expire()
        await story.nothing_left()


# -- 16


@pytest.mark.gen_test
async def test_16_a_claim_takes_the_lease_from_a_living_pod_which_comes_back_under_a_new_boot(
    redis_server: RedisServer,
) -> None:
    """Its heartbeat is late; the reaper has claimed it, and removes presence after all are back."""
    async with Story(redis_server) as story:
        pod = await story.start()
        client = await pod.connect("alice")
        await client.until("live")
        first = pod.app.lease.boot
        heartbeat = hold(pod.app.stores.commands, "lease_renew")
        pod.app.lease.check_soon()
        await heartbeat.reached.wait()
        story.expire()
        reaper = await story.start("pod-2", lease_ms=REAPER_MS)
        step = hold(reaper.app.stores.commands, "presence_remove")
        await step.reached.wait()
        heartbeat.open()
        # If the claim were only a lock beside the lease, the old boot would be renewed.
        await eventually(lambda: pod.app.lease.boot > first or story.redis.hget("ps:pod:{pod-1}", "expires"))
        await eventually(lambda: pod.app.presence.boot > first and not pod.app.presence.unflushed)
        assert story.boot() == pod.app.lease.boot
        step.open()
        await eventually(lambda: reaper.app.metrics.registry.get_sample_value("pushserver_pods_reaped_total"))
        assert story.boot() == story.lease() == pod.app.lease.boot
        assert story.indexed() == {"alice"}


# -- 17


@pytest.mark.gen_test
async def test_17_after_a_lease_that_ran_out_everyone_is_registered_anew(redis_server: RedisServer) -> None:
    async with Story(redis_server) as story:
        pod = await story.start()
        client = await pod.connect("alice")
        await client.until("live")
        pod.app.lease.on_new_boot = lambda: None  # the rescan would mend it
        heartbeat = hold(pod.app.stores.commands, "lease_renew")
        pod.app.lease.check_soon()
        await heartbeat.reached.wait()
        story.expire()
        await story.start("pod-2", lease_ms=REAPER_MS)
        await story.nothing_left()
        heartbeat.open()
        await eventually(lambda: story.boot() is not None)
        assert story.boot() == story.lease() == pod.app.lease.boot == pod.app.presence.boot
        assert story.indexed() == {"alice"}


@pytest.mark.gen_test
async def test_17_what_was_published_to_who_was_reaped_arrives_when_the_pod_is_back(
    redis_server: RedisServer,
) -> None:
    """Also what is published in the middle of its coming back."""
    async with Story(redis_server) as story:
        pod = await story.start()
        client = await pod.connect("alice")
        await client.until("live")
        heartbeat = hold(pod.app.stores.commands, "lease_renew")
        pod.app.lease.check_soon()
        await heartbeat.reached.wait()
        story.expire()
        other = await story.start("pod-2", lease_ms=REAPER_MS)
        await story.nothing_left()
        write = hold(pod.app.stores.commands, "presence_set")
        await other.send("alice", 1, "m-1")
        heartbeat.open()
        await write.reached.wait()
        await barrier(pod)
        await other.send("alice", 2, "m-2")
        write.open()
        assert [frame["id"] for frame in await client.messages(2)] == ["m-1", "m-2"]


# -- 19


@pytest.mark.gen_test
async def test_19_a_removal_that_lands_late_is_mended_by_the_rescan(redis_server: RedisServer) -> None:
    """It timed out and was repeated, and a closed socket still brought it: the user had come back."""
    async with Story(redis_server) as story:
        pod = await story.start(rescan_s=0.2)
        client = await pod.connect("alice")
        await client.until("live")
        await pod.app.stores.presence.remove(pod.app.lease.boot, "alice")
        await eventually(lambda: story.boot() == 1)


@pytest.mark.gen_test
async def test_19_a_field_that_is_not_of_this_boot_is_mended_by_the_rescan(redis_server: RedisServer) -> None:
    async with Story(redis_server) as story:
        story.redis.set("ps:boots", 5)
        pod = await story.start(rescan_s=0.2)
        client = await pod.connect("alice")
        await client.until("live")
        story.redis.hset("ps:presence:{alice}", "alice:pod-1", '{"boot":2,"since":1}')
        await eventually(lambda: story.boot() == 6)


# -- 20


@pytest.mark.gen_test
async def test_20_a_new_boot_of_a_name_reconciles_all_that_its_dead_one_left(
    redis_server: RedisServer,
) -> None:
    """Restarted at once: the lease never expires, so nobody reaps."""
    async with Story(redis_server) as story:
        dead = await story.start()
        for user in ("alice", "bob"):
            await (await dead.connect(user)).until("live")
        await dead.kill()
        assert (story.boot("alice"), story.boot("bob")) == (1, 1)
        pod = await story.start()
        await (await pod.connect("bob")).until("live")
        await eventually(lambda: story.boot("alice") is None)
        await eventually(lambda: pod.app.presence.unflushed == 0)
        assert (story.boot("bob"), story.indexed()) == (2, {"bob"})


# -- 21


@pytest.mark.gen_test
@pytest.mark.parametrize("reconnects", [False, True])
async def test_21_a_process_whose_name_was_taken_over_touches_nothing_of_the_newer_boot(
    redis_server: RedisServer, reconnects: bool
) -> None:
    """Alice is on both; the old one writes her once more before it knows, then it finds out and leaves."""
    async with Story(redis_server) as story, AsyncExitStack() as new_stays:
        configured = settings(
            redis_server.url, pod={"name": "pod-1", "lease_ms": LEASE_MS}, inbox={"rescan_s": 0}
        )
        async with running_pod(configured) as old:
            first = await old.connect("alice")
            await first.until("live")
            heartbeat = hold(old.app.stores.commands, "lease_renew")
            new = await new_stays.enter_async_context(running_pod(configured))
            await (await new.connect("alice")).until("live")
            assert story.boot() == 2
            if reconnects:
                await (await old.connect("alice")).until("live")
                assert story.boot() == 2
            old.app.lease.check_soon()
            await heartbeat.reached.wait()
            heartbeat.open()
            await eventually(old.server._stop.is_set)
        assert story.boot() == story.lease() == 2
        assert story.indexed() == {"alice"}
        assert story.redis.zscore("ps:pods", "pod-1") is not None
