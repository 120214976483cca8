"""What of a feed was lost is noticed, and hints that cannot be sent hold nobody up."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from pushserver.delivery import rescan as rescan_module
from pushserver.stores import feed as feed_store
from pushserver.stores.feed_entry import Hint, Hints
from tests.delivery.rig import rig
from tests.engines.redis_server import RedisServer
from tests.gate import hold, refuse
from tests.pod import eventually


@pytest.mark.gen_test
async def test_a_gap_that_was_read_over_before_a_heartbeat_is_noticed(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod that hung finds its feed trimmed, and reads on behind the gap before its heart beats again."""
    monkeypatch.setattr(feed_store, "FEED_MAX", 100)
    async with rig(redis_server.url) as on:
        line = await on.live()
        await on.send("alice", "m-1")
        for _ in range(300):
            await on.app.stores.feeds.append("pod-1", Hints([Hint("bob", 1, "m-2")], {}))
        on.app.tasks.spawn(on.app.rescan.run(), "rescan")
        with capture_logs() as logs:
            on.app.tasks.spawn(on.app.feed.run(), "feed")
            await line.got("m-1")
        assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["feed.gap"]
        assert on.counted("feed_gaps_total") == 1


@pytest.mark.gen_test
async def test_a_long_feed_without_a_gap_is_read_without_a_look_at_every_inbox(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        for _ in range(300):
            await on.app.stores.feeds.append("pod-1", Hints([Hint("bob", 1, "m-2")], {}))
        on.app.tasks.spawn(on.app.feed.run(), "feed")
        await on.send("alice", "m-1")
        await line.got("m-1")
        assert on.counted("feed_gaps_total") == 0


@pytest.mark.gen_test
async def test_who_is_mended_late_is_looked_at_all_the_same(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Presence could not be written in time, and there is no next round."""
    monkeypatch.setattr(rescan_module, "MEND_S", 0.05)
    async with rig(redis_server.url) as on:
        on.app.tasks.spawn(on.app.rescan.run(), "rescan")
        line = await on.live()
        await on.app.stores.commands.call("HDEL", "ps:presence:{alice}", "alice:pod-1")
        write = hold(on.app.stores.commands, "presence_set")
        on.app.rescan.now()
        await write.reached.wait()
        await on.send("alice", "m-1")
        await eventually(lambda: on.app.rescan._unseen)
        write.open()
        await line.got("m-1")


@pytest.mark.gen_test(timeout=20)
async def test_a_publish_does_not_wait_behind_hints_that_cannot_be_sent(redis_server: RedisServer) -> None:
    """They are tried for half a minute; one that comes meanwhile travels with them."""
    async with rig(redis_server.url) as on:
        on.app.tasks.spawn(on.app.feed.run(), "feed")
        line = await on.live()
        fault = refuse(on.app.stores.commands, "feed_append")
        for number in range(1, 4):
            async with asyncio.timeout(5):
                await on.send("alice", f"m-{number}")
        assert on.app.feeds.waiting == 2
        fault.end()
        await line.got("m-1", "m-2", "m-3")
        assert on.app.feeds.waiting == 0
