"""Publishing to users: content first, then each inbox, once for each id."""

from __future__ import annotations

import asyncio
import json

import pytest

from pushserver.core.errors import InvalidNameError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.delivery import publish
from pushserver.delivery.publish import Publisher
from pushserver.parts import Stores
from tests.gate import hold, refuse


@pytest.fixture
def publisher(stores: Stores, metrics: Metrics) -> Publisher:
    return Publisher(stores.contents, stores.inbox, stores.clock, metrics)


async def inbox(stores: Stores, user: str) -> list[str]:
    return (await stores.inbox.read(user, 100)).ids


@pytest.mark.gen_test
async def test_a_message_is_in_the_inbox_of_every_user_with_one_content(
    stores: Stores, publisher: Publisher
) -> None:
    before = stores.clock.now_ms()
    answers = await publisher.to_users(["alice", "bob"], {"text": "hi"}, message_id="m-1", ttl_s=60)
    assert [(one.new, one.waiting, one.seq, one.pods) for one in answers] == [(True, True, 1, ())] * 2
    assert await inbox(stores, "alice") == await inbox(stores, "bob") == ["m-1"]
    stored = await stores.contents.read("m-1")
    assert stored is not None
    frame = json.loads(stored.text)
    assert {**frame, "time": 0} == {"type": "message", "id": "m-1", "time": 0, "content": {"text": "hi"}}
    assert before <= frame["time"] <= stores.clock.now_ms()
    assert 0 < await stores.commands.call("TTL", "ps:msg:m-1") <= 60


@pytest.mark.gen_test
async def test_the_content_is_there_before_any_inbox_names_it(stores: Stores, publisher: Publisher) -> None:
    gate = hold(stores.commands, "SET", answers=True)
    publishing = asyncio.ensure_future(publisher.to_users(["alice"], 1, message_id="m-1", ttl_s=60))
    await gate.reached.wait()
    for _ in range(3):
        await stores.commands.call("PING")
    assert await inbox(stores, "alice") == []
    assert await stores.contents.read("m-1") is not None
    gate.open()
    await publishing
    assert await inbox(stores, "alice") == ["m-1"]


@pytest.mark.gen_test
async def test_an_answer_tells_which_pods_the_user_is_on(stores: Stores, publisher: Publisher) -> None:
    await stores.presence.write(1, "alice", 1, 0)
    (answer,) = await publisher.to_users(["alice"], 1, message_id="m-1", ttl_s=60)
    assert answer.pods == ("pod-1",)


@pytest.mark.gen_test
async def test_repeating_an_id_completes_what_was_begun_and_reaches_nobody_twice(
    stores: Stores, publisher: Publisher
) -> None:
    refuse(stores.commands, "inbox_append", times=1, only=lambda arguments: "bob" in str(arguments))
    with pytest.raises(StoreUnavailableError):
        await publisher.to_users(["alice", "bob"], "first", message_id="m-1", ttl_s=60)
    answers = await publisher.to_users(["alice", "bob"], "second", message_id="m-1", ttl_s=60)
    assert [one.new for one in answers] == [False, True]
    assert await inbox(stores, "alice") == await inbox(stores, "bob") == ["m-1"]
    stored = await stores.contents.read("m-1")
    assert stored is not None
    assert json.loads(stored.text)["content"] == "first"


@pytest.mark.gen_test
async def test_what_the_cap_evicts_is_counted(stores: Stores, metrics: Metrics, publisher: Publisher) -> None:
    stores.inbox._cap = 2
    for number in range(5):
        await publisher.to_users(["alice"], number, message_id=f"m-{number}", ttl_s=60)
    assert await inbox(stores, "alice") == ["m-3", "m-4"]
    assert metrics.registry.get_sample_value("pushserver_evicted_total") == 3


@pytest.mark.gen_test
async def test_users_beyond_a_slice_are_answered_in_order_and_by_few_at_a_time(
    stores: Stores, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "SLICE", 3)
    await publisher.to_users(["u-5"], 1, message_id="earlier", ttl_s=60)
    gate = hold(stores.commands, "inbox_append")
    users = [f"u-{number}" for number in range(10)]
    publishing = asyncio.ensure_future(publisher.to_users(users, 1, message_id="m-1", ttl_s=60))
    await gate.reached.wait()
    for _ in range(3):
        await stores.commands.call("PING")
    assert gate.count == 3
    gate.open()
    assert [one.seq for one in await publishing] == [1, 1, 1, 1, 1, 2, 1, 1, 1, 1]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "user, message_id, content",
    [
        ("", "m-1", 1),
        ("a\nb", "m-1", 1),
        ("x" * 129, "m-1", 1),
        ("alice", "", 1),
        ("alice", "m 1", 1),
        ("alice", "x" * 65, 1),
        ("alice", "m-1", float("nan")),
        ("alice", "m-1", "\ud800"),
        ("alice", "m-1", b"bytes"),
    ],
)
async def test_what_is_no_name_or_no_json_is_refused_before_anything_is_written(
    stores: Stores, publisher: Publisher, user: str, message_id: str, content: object
) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - which of its classes is told below
        await publisher.to_users(["bob", user], content, message_id=message_id, ttl_s=60)
    assert isinstance(error.value, InvalidNameError) == (content == 1)
    assert await stores.commands.call("DBSIZE") == 0


@pytest.mark.gen_test
async def test_new_ids_differ_and_sort_by_time(stores: Stores, publisher: Publisher) -> None:
    stores.clock.adjust(1_700_000_000_000)
    first = {publisher.new_id() for _ in range(100)}
    stores.clock.adjust(1_700_000_010_000)
    later = {publisher.new_id() for _ in range(100)}
    assert len(first | later) == 200
    assert max(first) < min(later)
