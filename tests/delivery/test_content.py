"""Contents: read once, kept within bounds, and gone only when Redis says so."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from pushserver.core.errors import StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.delivery import content as content_module
from pushserver.delivery.content import ENTRY_OVERHEAD, Contents
from pushserver.parts import Stores
from tests.gate import hold, refuse
from tests.pod import eventually
from tests.texts import message_text, store_text, to_users

TTL_S = 60


def contents(
    stores: Stores,
    metrics: Metrics,
    *,
    cache_bytes: int = 10**6,
    max_bytes: int = 10**6,
    deflate_from: int | None = None,
) -> Contents:
    return Contents(
        stores.contents,
        stores.clock,
        metrics,
        cache_bytes=cache_bytes,
        max_bytes=max_bytes,
        deflate_from=deflate_from,
    )


async def store(stores: Stores, message_id: str, content: object = "hello", ttl_s: int = TTL_S) -> None:
    await store_text(stores.contents, message_id, message_text(message_id, 1_700_000_000_000, content), ttl_s)


def reads(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("pushserver_content_cache_misses_total") or 0.0


@pytest.mark.gen_test
async def test_a_content_is_found_as_a_finished_frame_and_what_is_none_as_none(
    stores: Stores, metrics: Metrics
) -> None:
    cache = contents(stores, metrics)
    await store(stores, "m-1", {"text": "姓名"})
    found = await cache.get(["m-1", "m-2"])
    assert list(found) == ["m-1", "m-2"]
    assert found["m-2"] is None
    message = found["m-1"]
    assert message is not None
    assert message.frame[2:].decode() == message_text("m-1", 1_700_000_000_000, {"text": "姓名"})
    assert message.queued_at == 1_700_000_000_000


@pytest.mark.gen_test
async def test_a_content_is_read_from_redis_once_and_the_same_frame_is_shared(
    stores: Stores, metrics: Metrics
) -> None:
    cache, gate = contents(stores, metrics), hold(stores.commands, "content_read")
    await store(stores, "m-1")
    gate.open()
    first, again = [(await cache.get(["m-1"]))["m-1"] for _ in range(2)]
    assert first is again is not None
    assert (reads(metrics), metrics.registry.get_sample_value("pushserver_content_cache_hits_total")) == (
        1,
        1,
    )


@pytest.mark.gen_test
async def test_concurrent_misses_of_one_id_make_one_read(stores: Stores, metrics: Metrics) -> None:
    cache, gate = contents(stores, metrics), hold(stores.commands, "content_read")
    await store(stores, "m-1")
    waiting = [asyncio.ensure_future(cache.get(["m-1"])) for _ in range(5)]
    await gate.reached.wait()
    await asyncio.sleep(0)
    late = asyncio.ensure_future(cache.get(["m-1"]))
    await asyncio.sleep(0)
    assert gate.count == 1
    gate.open()
    found = [answer["m-1"] for answer in await asyncio.gather(*waiting, late)]
    assert found[0] is not None
    assert all(message is found[0] for message in found)


@pytest.mark.gen_test
async def test_misses_of_one_tick_share_a_pipeline(stores: Stores, metrics: Metrics) -> None:
    cache = contents(stores, metrics)
    for number in range(50):
        await store(stores, f"m-{number}")
    await cache.get(["m-0"])  # the engine knows the script from here on
    trips = metrics.registry.get_sample_value("pushserver_redis_round_trips_total") or 0
    await asyncio.gather(*(cache.get([f"m-{number}", f"m-{number + 1}"]) for number in range(1, 49)))
    assert metrics.registry.get_sample_value("pushserver_redis_round_trips_total") == trips + 1


@pytest.mark.gen_test
async def test_one_who_waits_no_longer_does_not_end_the_read_of_others(
    stores: Stores, metrics: Metrics
) -> None:
    cache, gate = contents(stores, metrics), hold(stores.commands, "content_read")
    await store(stores, "m-1")
    gives_up, stays = (asyncio.ensure_future(cache.get(["m-1"])) for _ in range(2))
    await gate.reached.wait()
    gives_up.cancel()
    await asyncio.wait([gives_up])
    gate.open()
    assert (await stays)["m-1"] is not None


@pytest.mark.gen_test
async def test_a_content_is_not_kept_beyond_its_expiry(
    stores: Stores, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = contents(stores, metrics)
    await store(stores, "m-1", ttl_s=60)
    assert (await cache.get(["m-1"]))["m-1"] is not None
    await stores.commands.call("DEL", "ps:msg:m-1")
    expiry = stores.clock.now_ms() + 60_000
    monkeypatch.setattr(type(stores.clock), "now_ms", lambda clock: expiry - 1000)
    assert (await cache.get(["m-1"]))["m-1"] is not None
    monkeypatch.setattr(type(stores.clock), "now_ms", lambda clock: expiry + 1000)
    assert (await cache.get(["m-1"]))["m-1"] is None
    assert cache.bytes == 0


@pytest.mark.gen_test
async def test_a_content_without_an_expiry_is_kept(stores: Stores, metrics: Metrics) -> None:
    cache = contents(stores, metrics)
    await stores.commands.call("SET", "ps:msg:m-1", message_text("m-1", 1, "kept"))
    for _ in range(2):
        assert (await cache.get(["m-1"]))["m-1"] is not None
    assert reads(metrics) == 1


@pytest.mark.gen_test
async def test_that_redis_does_not_answer_is_an_error_and_never_gone(
    stores: Stores, metrics: Metrics
) -> None:
    cache = contents(stores, metrics)
    await store(stores, "m-1")
    refuse(stores.commands, "content_read", times=1)
    with pytest.raises(StoreUnavailableError):
        await cache.get(["m-1", "m-2"])
    await eventually(lambda: not cache._loading)
    assert (await cache.get(["m-1"]))["m-1"] is not None


@pytest.mark.gen_test
async def test_what_is_gone_is_looked_up_again_the_next_time(stores: Stores, metrics: Metrics) -> None:
    cache = contents(stores, metrics)
    assert (await cache.get(["m-1"]))["m-1"] is None
    await store(stores, "m-1")
    assert (await cache.get(["m-1"]))["m-1"] is not None


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not JSON",
        b"\xff\xfe",
        b"[]",
        b'{"type":"message","id":"m-2","time":1,"content":1}',
        b'{"type":"live","id":"m-1","time":1,"content":1}',
        b'{"type":"message","id":"m-1","time":"now","content":1}',
        b'{"type":"message","id":"m-1","time":1}',
        b'{"type":"message","id":"m-1","time":1,"content":NaN}',
        b'{"type":"message","id":"m-1","time":1,"content":"' + b"x" * 300 + b'"}',
    ],
)
async def test_a_content_that_no_client_could_read_is_none_and_counted(
    stores: Stores, metrics: Metrics, text: bytes
) -> None:
    cache = contents(stores, metrics, max_bytes=300)
    await stores.commands.call("SET", "ps:msg:m-1", text)
    with capture_logs() as lines:
        assert (await cache.get(["m-1"]))["m-1"] is None
    assert [(line["event"], line["message_id"]) for line in lines] == [("content.invalid", "m-1")]
    assert metrics.registry.get_sample_value("pushserver_invalid_content_total") == 1
    assert cache.bytes == 0


@pytest.mark.gen_test
async def test_the_cache_keeps_within_its_bytes_and_drops_what_was_not_used_longest(
    stores: Stores, metrics: Metrics
) -> None:
    size = len(message_text("m-0", 1_700_000_000_000, "x" * 1000)) + 4 + ENTRY_OVERHEAD
    cache = contents(stores, metrics, cache_bytes=3 * size)
    for number in range(4):
        await store(stores, f"m-{number}", "x" * 1000)
    for message_id in ("m-0", "m-1", "m-2", "m-0", "m-3"):
        await cache.get([message_id])
        assert cache.bytes <= 3 * size
    assert cache.bytes == 3 * size
    seen = reads(metrics)
    await cache.get(["m-0", "m-2", "m-3"])
    assert reads(metrics) == seen
    await cache.get(["m-1"])
    assert reads(metrics) == seen + 1


@pytest.mark.gen_test
async def test_a_content_larger_than_the_cache_is_pushed_and_not_kept(
    stores: Stores, metrics: Metrics
) -> None:
    cache = contents(stores, metrics, cache_bytes=1000)
    await store(stores, "m-1", "x" * 2000)
    assert (await cache.get(["m-1"]))["m-1"] is not None
    assert cache.bytes == 0


@pytest.mark.gen_test
async def test_the_bytes_that_are_counted_are_about_those_that_are_held(
    stores: Stores, metrics: Metrics
) -> None:
    cache = contents(stores, metrics)
    ids = [f"m-{number}" for number in range(500)]
    for message_id in ids:
        await store(stores, message_id, "x" * 200)
    await cache.get(ids[:1])
    gc.collect()
    tracemalloc.start()
    await cache.get(ids)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.6 < held / cache.bytes < 1.4


# -- compressed frames


def deflated(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("pushserver_contents_deflated_total")


@pytest.mark.gen_test
async def test_a_compressed_frame_is_kept_beside_the_plain_one_and_counts(
    stores: Stores, metrics: Metrics
) -> None:
    cache = contents(stores, metrics, deflate_from=500)
    await store(stores, "m-1", "hello " * 500)
    message = (await cache.get(["m-1"]))["m-1"]
    assert message is not None
    before = cache.bytes
    frame = message.deflated(10**6)
    assert cache.bytes == before + len(frame)
    again = (await cache.get(["m-1"]))["m-1"]
    assert again is message
    assert again.deflated(10**6) is frame
    assert deflated(metrics) == 1
    cache.recall("m-1")
    assert cache.bytes == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("deflate_from", [None, 4000])
async def test_what_is_below_the_threshold_is_not_compressed(
    stores: Stores, metrics: Metrics, deflate_from: int | None
) -> None:
    cache = contents(stores, metrics, deflate_from=deflate_from)
    message = warm(cache, content="hello " * 500)
    assert message.deflated(10**6) is message.frame
    assert deflated(metrics) == 0


@pytest.mark.gen_test
async def test_a_compressed_frame_may_cost_others_their_place_or_its_own(
    stores: Stores, metrics: Metrics
) -> None:
    random = Random(1)
    texts = {f"m-{number}": random.randbytes(500).hex() for number in range(3)}
    size = len(message_text("m-0", 1_700_000_000_000, texts["m-0"])) + 4 + ENTRY_OVERHEAD
    cache = contents(stores, metrics, cache_bytes=3 * size, deflate_from=0)
    made = [warm(cache, one, text) for one, text in texts.items()]
    assert cache.bytes == 3 * size
    made[0].deflated(10**6)
    assert cache.bytes <= 3 * size
    assert cache.cached("m-0") is made[0]
    assert cache.cached("m-1") is None
    # One that is not in the cache any more is compressed all the same, and counts nowhere.
    before = cache.bytes
    made[1].deflated(10**6)
    assert cache.bytes == before
    alone = contents(stores, metrics, cache_bytes=size, deflate_from=0)
    message = warm(alone, "m-0", texts["m-0"])
    assert alone.bytes == size
    message.deflated(10**6)
    assert alone.bytes == 0


@pytest.mark.gen_test
async def test_another_message_of_the_same_id_is_not_charged(stores: Stores, metrics: Metrics) -> None:
    cache = contents(stores, metrics, deflate_from=0)
    old = warm(cache, content="old " * 200)
    new = warm(cache, content="new " * 200, expires_in_ms=600_000)
    assert new is not old
    before = cache.bytes
    old.deflated(10**6)
    assert (cache.bytes, cache.cached("m-1")) == (before, new)


# -- what comes with a hint or with the log


def warm(
    cache: Contents, message_id: str = "m-1", content: object = "hello", expires_in_ms: int = 60_000
) -> Any:
    """The text of a message that came with a hint."""
    text = message_text(message_id, 1_700_000_000_000, content).encode()
    return cache.warm(message_id, text, cache._clock.now_ms() + expires_in_ms)


@pytest.mark.gen_test
async def test_a_text_that_came_with_a_hint_costs_no_read(stores: Stores, metrics: Metrics) -> None:
    cache = contents(stores, metrics)
    assert cache.cached("m-1") is None
    message = warm(cache)
    assert message is not None
    assert cache.cached("m-1") is message
    assert (await cache.get(["m-1"]))["m-1"] is message
    assert reads(metrics) == 0


@pytest.mark.gen_test
async def test_what_is_in_the_cache_already_is_not_made_anew(stores: Stores, metrics: Metrics) -> None:
    cache = contents(stores, metrics)
    await store(stores, "m-1")
    stored = (await cache.get(["m-1"]))["m-1"]
    assert warm(cache, content="in other words") is stored


@pytest.mark.gen_test
async def test_a_text_that_came_with_a_hint_goes_away_at_its_time(
    stores: Stores, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, now = contents(stores, metrics), stores.clock.now_ms()
    monkeypatch.setattr(type(stores.clock), "now_ms", lambda clock: now)
    assert warm(cache, expires_in_ms=1000) is not None
    monkeypatch.setattr(type(stores.clock), "now_ms", lambda clock: now + 999)
    assert cache.cached("m-1") is not None
    monkeypatch.setattr(type(stores.clock), "now_ms", lambda clock: now + 1000)
    assert cache.cached("m-1") is None
    assert cache.bytes == 0


@pytest.mark.gen_test
async def test_the_text_of_a_later_message_replaces_the_one_that_had_its_id(
    stores: Stores, metrics: Metrics
) -> None:
    """Whether or not the earlier one is gone by the clock here."""
    cache = contents(stores, metrics)
    first = warm(cache, expires_in_ms=10)
    assert warm(cache, content="a repeat", expires_in_ms=15) is first
    other = warm(cache, content="another", expires_in_ms=1010)
    assert other is not first
    assert cache.cached("m-1") is other


@pytest.mark.gen_test
async def test_a_text_that_no_client_could_read_is_none(stores: Stores, metrics: Metrics) -> None:
    cache = contents(stores, metrics)
    with capture_logs() as lines:
        for text in (b"not JSON", message_text("m-2", 1, "another's").encode()):
            assert cache.warm("m-1", text, cache._clock.now_ms() + 1000) is None
            assert cache.parse("m-1", text) is None
    assert [line["event"] for line in lines] == ["content.invalid"] * 4
    assert (cache.cached("m-1"), cache.bytes) == (None, 0)


@pytest.mark.gen_test
async def test_a_text_for_the_live_only_is_not_kept(stores: Stores, metrics: Metrics) -> None:
    cache = contents(stores, metrics)
    message = cache.parse("m-1", message_text("m-1", 1_700_000_000_000, "hello").encode())
    assert message is not None
    assert (message.id, message.queued_at) == ("m-1", 1_700_000_000_000)
    assert (cache.cached("m-1"), cache.bytes) == (None, 0)


# -- what was recalled


@pytest.mark.gen_test
async def test_what_was_recalled_is_gone_from_the_cache_and_no_text_on_its_way_brings_it_back(
    stores: Stores, metrics: Metrics
) -> None:
    cache = contents(stores, metrics)
    await store(stores, "m-1")
    await cache.get(["m-1"])
    assert not cache.was_recalled("m-1")
    cache.recall("m-1")
    assert cache.was_recalled("m-1")
    assert (cache.cached("m-1"), cache.bytes) == (None, 0)
    assert warm(cache) is None
    assert cache.parse("m-1", message_text("m-1", 1, "hello").encode()) is None
    assert (await cache.get(["m-1"]))["m-1"] is None
    assert warm(cache, "m-2") is not None


@pytest.mark.gen_test
async def test_a_read_under_way_when_the_message_is_recalled_does_not_bring_it_back(
    stores: Stores, metrics: Metrics
) -> None:
    cache, gate = contents(stores, metrics), hold(stores.commands, "content_read", answers=True)
    await store(stores, "m-1")
    reading = asyncio.ensure_future(cache.get(["m-1"]))
    await gate.reached.wait()
    cache.recall("m-1")
    gate.open()
    assert (await reading)["m-1"] is None
    assert cache.cached("m-1") is None


@pytest.mark.gen_test
async def test_that_it_was_recalled_is_seen_by_who_reads_it_without_having_been_told(
    stores: Stores, metrics: Metrics
) -> None:
    """So a waiting entry is dropped as recalled, and not as expired."""
    cache = contents(stores, metrics)
    await stores.contents.publish(to_users(["alice"], "hello", "m-1"), 600)
    await stores.contents.recall("m-1", 600)
    assert await cache.get(["m-1", "m-2"]) == {"m-1": None, "m-2": None}
    assert (cache.was_recalled("m-1"), cache.was_recalled("m-2")) == (True, False)


@pytest.mark.gen_test
async def test_so_many_recalls_are_remembered_and_no_more(
    stores: Stores, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_module, "RECALLED_MAX", 3)
    cache = contents(stores, metrics)
    for number in range(5):
        cache.recall(f"m-{number}")
    assert [cache.was_recalled(f"m-{number}") for number in range(5)] == [False, False, True, True, True]


@pytest.mark.gen_test
async def test_close_gives_up_the_reads_under_way_and_leaves_no_task(
    stores: Stores, metrics: Metrics
) -> None:
    cache, gate = contents(stores, metrics), hold(stores.commands, "content_read")
    asked = asyncio.ensure_future(cache.get(["m-1", "m-2"]))
    await gate.reached.wait()
    async with asyncio.timeout(5):
        await cache.close()
    await asyncio.wait([asked])
    assert asked.cancelled()
    others = [task for task in asyncio.all_tasks() if task.get_name() == "content read"]
    assert others == []
