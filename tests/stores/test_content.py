"""Contents and the records of their publishes, of one moment: both are written by one script."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from pushserver.core.errors import IdReusedError, RecalledError
from pushserver.core.jsontext import dump
from pushserver.core.publication import Publication
from pushserver.stores.commands import Commands
from pushserver.stores.content import ContentStore, PublishRecord, StoredContent
from pushserver.stores.keys import Keys
from pushserver.stores.seal import Durability
from tests.engines.redis_server import RedisServer
from tests.stores.engines import commands_of
from tests.texts import store_text, to_users

TEXT = '{"type":"message","id":"m-1","time":1,"content":"愛 \\u0000"}'
RECORD_TTL_S = 600
HELLO = to_users(["alice"], {"text": "愛"}, "m-1", 1000)
LIVE = replace(HELLO, offline=False)


@pytest.fixture
def contents(commands: Commands, keys: Keys) -> ContentStore:
    return ContentStore(commands, keys)


@pytest.fixture
def record(keys: Keys) -> str:
    return keys.publish("m-1")


async def publish(contents: ContentStore, publication: Publication = HELLO) -> PublishRecord:
    return await contents.publish(publication, RECORD_TTL_S)


async def ttl_s(commands: Commands, key: str) -> float:
    return float(await commands.call("PTTL", key)) / 1000


async def text_of(contents: ContentStore) -> Any:
    stored = await contents.read("m-1")
    return None if stored is None else json.loads(stored.text)


# -- read


@pytest.mark.gen_test
async def test_a_content_is_read_as_written_with_the_moment_it_goes(
    contents: ContentStore, commands: Commands
) -> None:
    before = int((await commands.call("TIME"))[0]) * 1000
    await store_text(contents, "m-1", TEXT, 1000)
    stored = await contents.read("m-1")
    assert stored is not None
    assert stored.text == TEXT.encode()
    assert stored.expires_at is not None
    assert before + 1000_000 <= stored.expires_at <= before + 1000_000 + 10_000


@pytest.mark.gen_test
async def test_a_content_that_is_gone_is_none(contents: ContentStore) -> None:
    assert await contents.read("m-1") is None


@pytest.mark.gen_test
async def test_a_content_that_went_away_is_none_while_its_record_is_kept(
    contents: ContentStore, commands: Commands, keys: Keys
) -> None:
    await publish(contents)
    await commands.call("DEL", keys.content("m-1"))
    assert await contents.read("m-1") is None


@pytest.mark.gen_test
async def test_a_content_without_a_time_never_goes_away(
    contents: ContentStore, commands: Commands, keys: Keys
) -> None:
    """As another program may write it."""
    await commands.call("SET", keys.content("m-1"), TEXT)
    assert await contents.read("m-1") == StoredContent(TEXT.encode(), None)


@pytest.mark.gen_test
async def test_an_empty_content_is_there(contents: ContentStore, commands: Commands, keys: Keys) -> None:
    await commands.call("SET", keys.content("m-1"), "")
    assert await contents.read("m-1") == StoredContent(b"", None)


@pytest.mark.gen_test
async def test_a_large_content_comes_back_whole(contents: ContentStore) -> None:
    text = "x" * 3_000_000
    await publish(contents, to_users(["alice"], text, "m-1"))
    assert (await text_of(contents))["content"] == text


# -- publish: new, and a repeat


@pytest.mark.gen_test
async def test_a_publish_writes_the_finished_text_with_the_time_of_redis(
    contents: ContentStore, commands: Commands, record: str
) -> None:
    seconds, _ = await commands.call("TIME")
    answer = await publish(contents)
    assert (answer.new, answer.sent) == (True, False)
    assert 0 <= answer.queued_at - int(seconds) * 1000 < 10_000
    frame = {"type": "message", "id": "m-1", "time": answer.queued_at, "content": {"text": "愛"}}
    assert await text_of(contents) == frame
    assert await commands.call("HGET", record, "digest") == HELLO.digest.encode()
    assert await commands.call("HGET", record, "queued_at") == str(answer.queued_at).encode()


@pytest.mark.gen_test
async def test_a_repeat_is_told_and_keeps_text_and_time(contents: ContentStore) -> None:
    first = await publish(contents)
    before = await contents.read("m-1")
    assert await publish(contents) == PublishRecord(False, False, first.queued_at)
    assert await contents.read("m-1") == before


@pytest.mark.gen_test
async def test_of_concurrent_publishes_of_one_message_one_is_new(contents: ContentStore) -> None:
    answers = await asyncio.gather(*(publish(contents) for _ in range(20)))
    assert sum(answer.new for answer in answers) == 1
    assert len({answer.queued_at for answer in answers}) == 1


@pytest.mark.gen_test
async def test_a_repeat_after_the_content_went_away_does_not_bring_it_back(
    contents: ContentStore, commands: Commands, keys: Keys
) -> None:
    """It was delivered, or has expired: the record outlives it."""
    await publish(contents)
    await commands.call("DEL", keys.content("m-1"))
    assert not (await publish(contents)).new
    assert await contents.read("m-1") is None


# -- publish: refused


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "other",
    [
        to_users(["alice"], {"text": "other"}, "m-1", 1000),
        to_users(["alice", "bob"], {"text": "愛"}, "m-1", 1000),
        to_users(["alice"], {"text": "愛"}, "m-1", 1001),
        LIVE,
        Publication("m-1", HELLO.content, 1000, categories={}),
        Publication("m-1", HELLO.content, 1000, categories={"vip": ("3",)}),
    ],
)
async def test_another_message_under_the_same_id_is_refused_and_changes_nothing(
    contents: ContentStore, commands: Commands, record: str, other: Publication
) -> None:
    await publish(contents)
    before = await contents.read("m-1"), await commands.call("HGETALL", record)
    with pytest.raises(IdReusedError) as refusal:
        await publish(contents, other)
    assert refusal.value.message_id == "m-1"
    assert (await contents.read("m-1"), await commands.call("HGETALL", record)) == before


@pytest.mark.gen_test
async def test_a_content_that_another_program_wrote_is_not_published_over(
    contents: ContentStore, commands: Commands, record: str
) -> None:
    await store_text(contents, "m-1", TEXT, 1000)
    for publication in (HELLO, LIVE):
        with pytest.raises(IdReusedError):
            await publish(contents, publication)
    stored = await contents.read("m-1")
    assert stored is not None
    assert stored.text == TEXT.encode()
    assert await commands.call("EXISTS", record) == 0


# -- for those only who are live


@pytest.mark.gen_test
async def test_of_a_message_for_the_live_only_the_record_is_stored(
    contents: ContentStore, commands: Commands, record: str
) -> None:
    assert (await publish(contents, LIVE)).new
    assert await contents.read("m-1") is None
    assert RECORD_TTL_S - 5 < await ttl_s(commands, record) <= RECORD_TTL_S


@pytest.mark.gen_test
async def test_a_message_for_the_live_that_was_sent_is_told_from_one_that_was_not(
    contents: ContentStore,
) -> None:
    first = await publish(contents, LIVE)
    assert await publish(contents, LIVE) == PublishRecord(False, False, first.queued_at)
    await contents.sent("m-1")
    assert await publish(contents, LIVE) == PublishRecord(False, True, first.queued_at)


@pytest.mark.gen_test
async def test_a_note_that_it_was_sent_leaves_nothing_behind_when_the_record_is_gone(
    contents: ContentStore, commands: Commands, record: str
) -> None:
    await contents.sent("m-1")
    assert await commands.call("EXISTS", record) == 0


# -- times to live


@pytest.mark.gen_test
@pytest.mark.parametrize("content_ttl_s", [10, 50_000])
async def test_a_record_lives_for_its_time_at_least_and_as_long_as_the_content(
    contents: ContentStore, commands: Commands, keys: Keys, record: str, content_ttl_s: int
) -> None:
    await publish(contents, to_users(["alice"], 1, "m-1", content_ttl_s))
    assert content_ttl_s - 5 < await ttl_s(commands, keys.content("m-1")) <= content_ttl_s
    record_ttl_s = max(RECORD_TTL_S, content_ttl_s)
    assert record_ttl_s - 5 < await ttl_s(commands, record) <= record_ttl_s


@pytest.mark.gen_test
@pytest.mark.parametrize("other", [False, True])
async def test_a_repeat_writes_so_that_wait_answers_for_it(
    contents: ContentStore, commands: Commands, record: str, other: bool
) -> None:
    """WAIT answers for the last write of its connection: a time to live is refreshed anyway."""
    await publish(contents)
    await commands.call("EXPIRE", record, 30)
    if other:
        with pytest.raises(IdReusedError):
            await publish(contents, to_users(["bob"], 1, "m-1", 1000))
    else:
        await publish(contents)
    assert await ttl_s(commands, record) > 30


@pytest.mark.gen_test
async def test_no_repeat_shortens_the_life_of_a_record(
    contents: ContentStore, commands: Commands, record: str
) -> None:
    await publish(contents)
    await commands.call("EXPIRE", record, 50_000)
    await publish(contents)
    assert await ttl_s(commands, record) > 50_000 - 5


# -- recall


@pytest.mark.gen_test
async def test_what_was_recalled_is_read_as_recalled_and_published_no_more(contents: ContentStore) -> None:
    await publish(contents)
    for _ in range(2):
        assert await contents.recall("m-1", 50_000)
        with pytest.raises(RecalledError):
            await contents.read("m-1")
    for publication in (HELLO, LIVE, to_users(["bob"], 2, "m-1")):
        with pytest.raises(RecalledError) as refusal:
            await publish(contents, publication)
        assert refusal.value.message_id == "m-1"


@pytest.mark.gen_test
async def test_a_message_that_nobody_knows_is_not_recalled(
    contents: ContentStore, commands: Commands, record: str
) -> None:
    assert not await contents.recall("m-1", 50_000)
    assert await commands.call("EXISTS", record) == 0


@pytest.mark.gen_test
async def test_a_record_says_that_it_was_recalled_for_as_long_as_it_would_have_lived(
    contents: ContentStore, commands: Commands, record: str
) -> None:
    await publish(contents)
    await contents.recall("m-1", 50_000)
    assert 1000 - 5 < await ttl_s(commands, record) <= 1000


@pytest.mark.gen_test
async def test_what_another_program_wrote_is_recalled_for_the_longest_time_a_content_lives(
    contents: ContentStore, commands: Commands, record: str
) -> None:
    await store_text(contents, "m-1", TEXT, 1000)
    assert await contents.recall("m-1", 50_000)
    with pytest.raises(RecalledError):
        await contents.read("m-1")
    assert 50_000 - 5 < await ttl_s(commands, record) <= 50_000


@pytest.mark.gen_test
async def test_a_message_for_the_live_is_known_to_a_recall(contents: ContentStore) -> None:
    await publish(contents, LIVE)
    assert await contents.recall("m-1", 50_000)
    with pytest.raises(RecalledError):
        await publish(contents, LIVE)


@pytest.mark.gen_test
async def test_a_content_that_is_hostile_json_text_stays_as_it_is(contents: ContentStore) -> None:
    """It is put together by a script: nothing in it is a pattern or a number there."""
    for number, content in enumerate(["%d %s %1", '"}{\\', "\u2028</script>", 2**53 + 1, 1e300]):
        publication = Publication(f"m-{number}", dump(content), 60, ("alice",))
        await contents.publish(publication, RECORD_TTL_S)
        stored = await contents.read(f"m-{number}")
        assert stored is not None
        assert f'"content":{publication.content}}}'.encode() in stored.text
        assert json.loads(stored.text)["content"] == content


@pytest.mark.parametrize("durability, ahead", [("none", True), ("replica", False), ("fsync", False)])
@pytest.mark.gen_test
async def test_an_append_may_go_ahead_of_the_answer_unless_that_is_what_tells_it_durable(
    durability: Durability, ahead: bool, redis_server: RedisServer, keys: Keys
) -> None:
    async with commands_of(redis_server.url, durability=durability) as commands:
        assert ContentStore(commands, keys).comes_first == ahead
