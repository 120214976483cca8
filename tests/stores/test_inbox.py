from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from pushserver.core.errors import StoreRefusedError
from pushserver.stores.commands import Commands
from pushserver.stores.inbox import Appended, Inbox, Missed
from pushserver.stores.keys import Keys
from pushserver.stores.presence import PresenceStore
from tests.pod import eventually

CAP = 5
TTL_S = 1000
IDEMPOTENCY_S = 60
HOSTILE = ["{alice}", "a%7Bb", "a:b:", "}{", "愛:麗絲", "%", "a b\u00a0c"]


@pytest.fixture
def inbox(commands: Commands, keys: Keys) -> Inbox:
    return Inbox(commands, keys, cap=CAP, ttl_s=TTL_S, idempotency_s=IDEMPOTENCY_S)


async def append_all(inbox: Inbox, ids: Sequence[str], user: str = "alice") -> list[Appended]:
    return [await inbox.append(user, message_id, 10) for message_id in ids]


async def ids(inbox: Inbox, user: str = "alice") -> list[str]:
    return (await inbox.read(user, 1000)).ids


# -- append


@pytest.mark.gen_test
async def test_an_append_puts_ids_in_order_and_raises_the_sequence(inbox: Inbox) -> None:
    appended = await append_all(inbox, ["1", "2", "3"])
    assert appended == [Appended(True, True, seq, 0, {}) for seq in (1, 2, 3)]
    page = await inbox.read("alice", 10)
    assert (page.ids, page.seq, page.size, page.garbage) == (["1", "2", "3"], 3, 3, [])


@pytest.mark.gen_test
async def test_an_id_that_waits_is_not_appended_again_but_is_to_be_hinted_again(inbox: Inbox) -> None:
    """Rule 5 of the model: its publisher may have died before the hint."""
    await append_all(inbox, ["1", "2"])
    assert await inbox.append("alice", "1", 10) == Appended(False, True, 2, 0, {})
    assert await ids(inbox) == ["1", "2"]


@pytest.mark.gen_test
async def test_an_append_that_goes_ahead_of_its_contents_answer_is_refused_without_the_content(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    """Else a back end that tries again and again would push out what was accepted."""
    if not commands.in_one_order:
        return
    await append_all(inbox, [str(number) for number in range(CAP)])
    [refused] = await inbox.append_to_all(["alice"], "new", 10, unanswered=True)
    assert isinstance(refused, StoreRefusedError)
    assert refused.kind == "content"
    assert await ids(inbox) == ["0", "1", "2", "3", "4"]
    await commands.call("SET", keys.content("new"), "text")
    assert await inbox.append_to_all(["alice"], "new", 10, unanswered=True) == [
        Appended(True, True, CAP + 1, 1, {})
    ]


@pytest.mark.gen_test
async def test_an_id_that_was_settled_is_not_appended_again(inbox: Inbox) -> None:
    """Rule 10 of the model: the answer to the first attempt was lost, and the user has got it since."""
    await append_all(inbox, ["1"])
    await inbox.settle("alice", ["1"])
    assert await inbox.append("alice", "1", 10) == Appended(False, False, 1, 0, {})
    assert await ids(inbox) == []


@pytest.mark.gen_test
async def test_an_id_that_was_evicted_is_not_appended_again(inbox: Inbox) -> None:
    await append_all(inbox, ["1", "2", "3", "4", "5", "6"])
    assert await inbox.append("alice", "1", 10) == Appended(False, False, 6, 0, {})


@pytest.mark.gen_test
async def test_an_id_that_another_program_put_there_is_not_doubled(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    await commands.call("RPUSH", keys.inbox("alice"), "1")
    assert await inbox.append("alice", "1", 10) == Appended(False, True, 0, 0, {})


@pytest.mark.gen_test
async def test_concurrent_appends_of_one_id_put_it_there_once(inbox: Inbox) -> None:
    answers = await asyncio.gather(*(inbox.append("alice", "1", 10) for _ in range(20)))
    assert sum(answer.new for answer in answers) == 1
    assert {answer.seq for answer in answers} == {1}
    assert await ids(inbox) == ["1"]


@pytest.mark.gen_test
async def test_an_append_tells_the_pods_that_the_user_is_on_and_under_which_boots(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    for pod, boot in (("pod-1", 3), ("pod-2", 5)):
        await PresenceStore(commands, keys, pod).write(boot, "alice", 0, 0)
    await commands.call("HSET", keys.presence("alice"), "alice:pod-3", "no record", "of nobody", "{}")
    pods = {"pod-1": 3, "pod-2": 5, "pod-3": 0}
    for message_id in ("1", "1"):
        assert (await inbox.append("alice", message_id, 10)).pods == pods
    await inbox.settle("alice", ["1"])
    assert (await inbox.append("alice", "1", 10)).pods == pods


# -- the cap


@pytest.mark.gen_test
async def test_the_cap_evicts_the_oldest_and_counts(inbox: Inbox) -> None:
    appended = await append_all(inbox, [str(number) for number in range(1, 8)])
    assert [one.evicted for one in appended] == [0, 0, 0, 0, 0, 1, 1]
    page = await inbox.read("alice", 10)
    assert (page.ids, page.missed) == (["3", "4", "5", "6", "7"], Missed(evicted=2))


@pytest.mark.gen_test
async def test_a_cap_that_was_lowered_evicts_all_beyond_it_at_the_next_append(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    await append_all(inbox, ["1", "2", "3", "4"])
    lower = Inbox(commands, keys, cap=2, ttl_s=TTL_S, idempotency_s=IDEMPOTENCY_S)
    assert (await lower.append("alice", "5", 10)).evicted == 3
    page = await inbox.read("alice", 10)
    assert (page.ids, page.missed) == (["4", "5"], Missed(evicted=3))


# -- what is remembered of ids


@pytest.mark.gen_test
async def test_ids_are_forgotten_when_a_repeat_is_no_longer_allowed(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    await append_all(inbox, ["old"])
    await inbox.settle("alice", ["old"])
    await commands.call("ZINCRBY", keys.seen("alice"), -(IDEMPOTENCY_S + 1) * 1000, "old")
    assert (await inbox.append("alice", "new", 10)).new
    assert await commands.call("ZRANGE", keys.seen("alice"), 0, -1) == [b"new"]
    assert (await inbox.append("alice", "old", 10)).new


@pytest.mark.gen_test
async def test_at_most_4096_ids_are_remembered_and_the_oldest_go(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    await append_all(inbox, ["newer"])
    now = float(await commands.call("ZSCORE", keys.seen("alice"), "newer"))
    older = [item for number in range(5000) for item in (now - 5000 + number, f"id-{number}")]
    await commands.call("ZADD", keys.seen("alice"), *older)
    await append_all(inbox, ["newest"])
    assert await commands.call("ZCARD", keys.seen("alice")) == 4096
    assert await commands.call("ZSCORE", keys.seen("alice"), "id-905") is None
    assert await commands.call("ZSCORE", keys.seen("alice"), "id-906") is not None
    assert await commands.call("ZRANGE", keys.seen("alice"), -2, -1) == [b"newer", b"newest"]


# -- times to live


async def ttl_s(commands: Commands, key: str) -> float:
    return float(await commands.call("PTTL", key)) / 1000


@pytest.mark.gen_test
async def test_an_inbox_lives_as_long_as_the_settings_say(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    await inbox.append("alice", "1", 10)
    for key in (keys.inbox("alice"), keys.seq("alice")):
        assert TTL_S - 5 < await ttl_s(commands, key) <= TTL_S
    assert IDEMPOTENCY_S - 5 < await ttl_s(commands, keys.seen("alice")) <= IDEMPOTENCY_S


@pytest.mark.gen_test
async def test_an_inbox_lives_as_long_as_its_newest_content_and_no_append_shortens_that(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    await inbox.append("alice", "long", 50_000)
    await inbox.append("alice", "short", 10)
    for key in (keys.inbox("alice"), keys.seq("alice")):
        assert 50_000 - 5 < await ttl_s(commands, key) <= 50_000


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.gen_test
async def test_a_repeat_writes_so_that_wait_answers_for_it(
    inbox: Inbox, commands: Commands, keys: Keys, settled: bool
) -> None:
    """WAIT answers for the last write of its connection: times to live are refreshed whatever the status."""
    await inbox.append("alice", "1", 10)
    if settled:
        await inbox.settle("alice", ["1"])
    for key in (keys.inbox("alice"), keys.seq("alice"), keys.seen("alice")):
        await commands.call("EXPIRE", key, 30)
    await inbox.append("alice", "1", 10)
    assert await ttl_s(commands, keys.seen("alice")) > 30
    assert await ttl_s(commands, keys.seq("alice")) > 30
    assert settled or await ttl_s(commands, keys.inbox("alice")) > 30


DAY_S = 86_400


@pytest.mark.gen_test
async def test_a_suspicion_goes_away_by_itself(inbox: Inbox, commands: Commands, keys: Keys) -> None:
    await append_all(inbox, ["1"])
    for alone in (None, None, "1"):
        await inbox.blame("alice", alone)
        assert DAY_S - 5 < await ttl_s(commands, keys.blame("alice")) <= DAY_S
        await commands.call("EXPIRE", keys.blame("alice"), 100)


@pytest.mark.gen_test
async def test_what_was_missed_is_forgotten_a_month_after_the_last(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    async def assert_a_month(key: str) -> None:
        assert 30 * DAY_S - 5 < await ttl_s(commands, key) <= 30 * DAY_S
        await commands.call("EXPIRE", key, 100)

    await append_all(inbox, ["1", "2", "3", "4", "5", "6"])
    await assert_a_month(keys.missed("alice"))
    await inbox.drop_expired("alice", ["2"])
    await assert_a_month(keys.missed("alice"))
    for _ in range(3):
        await inbox.blame("alice", "3")
    await assert_a_month(keys.missed("alice"))
    await assert_a_month(keys.parked("alice"))


@pytest.mark.gen_test
async def test_who_missed_nothing_has_no_key_for_it(inbox: Inbox, commands: Commands, keys: Keys) -> None:
    await append_all(inbox, ["1", "2"])
    await inbox.settle("alice", ["1", "none"])
    await inbox.drop_expired("alice", ["1"])
    assert await commands.call("EXISTS", keys.missed("alice")) == 0
    await inbox.drop_expired("alice", ["2"])
    await inbox.told("alice", Missed(expired=1))
    assert await commands.call("EXISTS", keys.missed("alice")) == 0


@pytest.mark.gen_test
async def test_ids_are_remembered_by_redis_time(inbox: Inbox, commands: Commands, keys: Keys) -> None:
    seconds, _ = await commands.call("TIME")
    await inbox.append("alice", "1", 10)
    score = float(await commands.call("ZSCORE", keys.seen("alice"), "1"))
    assert 0 <= score - int(seconds) * 1000 < 10_000


# -- read, settle, drop


@pytest.mark.gen_test
async def test_an_inbox_that_is_not_there_is_empty(inbox: Inbox) -> None:
    page = await inbox.read("alice", 10)
    assert (page.seq, page.ids, page.missed, page.size, page.garbage) == (0, [], Missed(), 0, [])
    assert not page.missed


@pytest.mark.gen_test
async def test_a_page_has_the_oldest_ids_and_the_sequence_of_all(inbox: Inbox) -> None:
    await append_all(inbox, ["1", "2", "3"])
    page = await inbox.read("alice", 2)
    assert (page.ids, page.size, page.seq) == (["1", "2"], 2, 3)


@pytest.mark.gen_test
async def test_settling_removes_from_anywhere_and_twice_is_once(inbox: Inbox) -> None:
    await append_all(inbox, ["1", "2", "3"])
    assert await inbox.settle("alice", ["2", "3", "unknown"]) == 2
    assert await inbox.settle("alice", ["2", "3"]) == 0
    page = await inbox.read("alice", 10)
    assert (page.ids, page.seq, page.missed) == (["1"], 3, Missed())


@pytest.mark.gen_test
async def test_settling_touches_no_other_user(inbox: Inbox) -> None:
    await append_all(inbox, ["1"], "alice")
    await append_all(inbox, ["1"], "bob")
    await inbox.settle("alice", ["1"])
    assert await ids(inbox, "bob") == ["1"]


@pytest.mark.gen_test
async def test_what_is_dropped_for_want_of_its_content_counts_as_expired_once(inbox: Inbox) -> None:
    await append_all(inbox, ["1", "2"])
    assert await inbox.drop_expired("alice", ["1", "unknown"]) == 1
    assert await inbox.drop_expired("alice", ["1"]) == 0
    page = await inbox.read("alice", 10)
    assert (page.ids, page.missed) == (["2"], Missed(expired=1))


# -- told


@pytest.mark.gen_test
async def test_what_was_told_is_taken_off_and_what_came_meanwhile_stays(inbox: Inbox) -> None:
    await append_all(inbox, ["1", "2", "3", "4", "5", "6", "7"])
    await inbox.drop_expired("alice", ["3"])
    told = (await inbox.read("alice", 1)).missed
    await inbox.drop_expired("alice", ["4"])
    await inbox.told("alice", told)
    assert told == Missed(expired=1, evicted=2)
    assert (await inbox.read("alice", 1)).missed == Missed(expired=1)


@pytest.mark.gen_test
async def test_two_connections_that_were_told_the_same_never_lead_below_nothing(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    await append_all(inbox, ["1", "2"])
    await inbox.drop_expired("alice", ["1"])
    for _ in range(2):
        await inbox.told("alice", Missed(expired=1, evicted=3, parked=1))
    assert (await inbox.read("alice", 1)).missed == Missed()
    assert await commands.call("EXISTS", keys.missed("alice")) == 0
    await inbox.drop_expired("alice", ["2"])
    assert (await inbox.read("alice", 1)).missed == Missed(expired=1)


# -- poison


@pytest.mark.gen_test
async def test_the_first_close_only_raises_a_suspicion_then_two_more_alone_park(inbox: Inbox) -> None:
    await append_all(inbox, ["1", "2"])
    assert [await inbox.blame("alice", "1") for _ in range(3)] == [False, False, True]
    page = await inbox.read("alice", 10)
    assert (page.ids, page.missed) == (["2"], Missed(parked=1))
    assert await inbox.waiting("alice") == (1, 1)


@pytest.mark.gen_test
async def test_a_close_with_several_in_flight_blames_none_of_them(inbox: Inbox) -> None:
    await append_all(inbox, ["1"])
    answers = [await inbox.blame("alice", alone) for alone in (None, None, None, "1", None)]
    assert answers == [False] * 5
    assert await inbox.blame("alice", "1")


@pytest.mark.gen_test
async def test_each_message_has_a_count_of_its_own(inbox: Inbox) -> None:
    await append_all(inbox, ["1", "2"])
    assert [await inbox.blame("alice", alone) for alone in (None, "1", "2")] == [False] * 3
    assert await inbox.blame("alice", "2")
    assert await ids(inbox) == ["1"]


@pytest.mark.gen_test
async def test_parking_ends_the_suspicion(inbox: Inbox) -> None:
    await append_all(inbox, ["1", "2"])
    for _ in range(3):
        await inbox.blame("alice", "1")
    assert [await inbox.blame("alice", "2") for _ in range(3)] == [False, False, True]


@pytest.mark.gen_test
async def test_what_was_absolved_begins_anew(inbox: Inbox) -> None:
    await append_all(inbox, ["1"])
    await inbox.blame("alice", "1")
    await inbox.blame("alice", "1")
    await inbox.absolve("alice")
    assert [await inbox.blame("alice", "1") for _ in range(3)] == [False, False, True]


@pytest.mark.gen_test
async def test_what_has_left_the_inbox_cannot_be_parked(inbox: Inbox) -> None:
    await append_all(inbox, ["1"])
    await inbox.blame("alice", "1")
    await inbox.blame("alice", "1")
    await inbox.settle("alice", ["1"])
    assert not await inbox.blame("alice", "1")
    assert await inbox.waiting("alice") == (0, 0)
    assert (await inbox.read("alice", 1)).missed == Missed()


# -- names


@pytest.mark.gen_test
async def test_users_whose_names_look_like_keys_have_inboxes_of_their_own(inbox: Inbox) -> None:
    for number, user in enumerate(HOSTILE):
        await append_all(inbox, [str(number)], user)
        await inbox.drop_expired(user, ["none"])
    assert [await ids(inbox, user) for user in HOSTILE] == [[str(number)] for number in range(len(HOSTILE))]


@pytest.mark.gen_test
async def test_an_inbox_goes_away_with_its_time_and_the_sequence_with_it(
    inbox: Inbox, commands: Commands, keys: Keys
) -> None:
    await append_all(inbox, ["1"])
    for key in (keys.inbox("alice"), keys.seq("alice")):
        await commands.call("PEXPIRE", key, 1)

    async def gone() -> bool:
        page = await inbox.read("alice", 10)
        return (page.seq, page.ids) == (0, [])

    await eventually(gone)
