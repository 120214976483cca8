"""Telling pods: many hints in an entry, one entry under way to each pod, and nobody held up by what fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

import pytest

from pushserver.core.errors import StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.delivery import feeds as feeds_module
from pushserver.delivery.feeds import Feeds
from pushserver.delivery.tasks import Tasks
from pushserver.parts import Stores
from pushserver.stores.feed import FeedStore
from pushserver.stores.feed_entry import FeedEntry, Hint, Hints, Kick, decode
from pushserver.stores.keys import Keys
from pushserver.stores.lease import LeaseStore
from pushserver.stores.presence import PresenceStore
from tests.gate import hold, refuse
from tests.pod import eventually

TEXT = (b"a small text", 1_700_000_000_000)
KEYS = Keys("ps:")


class Bench:
    """Feeds of `pod-2` and others that are told; real, as all that is here."""

    def __init__(self, stores: Stores, metrics: Metrics) -> None:
        self.stores = stores
        self.commands = stores.commands
        self._metrics = metrics
        self.tasks = Tasks(metrics)
        self.feeds = Feeds(stores.feeds, stores.presence, metrics, self.tasks)

    async def pod(self, name: str = "pod-2", boot: int = 7) -> None:
        """A pod with its lease and its feed."""
        await LeaseStore(self.commands, KEYS, name, 60_000).take(boot, {"host": name})
        await FeedStore(self.commands, KEYS, self.stores.reader, name).open(boot)

    async def hint(
        self,
        user: str = "alice",
        *,
        message_id: str = "m-1",
        pods: Mapping[str, int] = {"pod-2": 7},
        text: feeds_module.Text | None = None,
    ) -> None:
        async with asyncio.timeout(5):
            await self.feeds.hint([(Hint(user, 1, message_id), pods)], text)

    async def entries(self, name: str = "pod-2") -> list[FeedEntry | None]:
        """What the feed holds behind its beginning."""
        _, *told = await self.commands.call("XRANGE", KEYS.feed(name), "-", "+")
        return [decode(flat) for _, flat in told]

    async def hinted(self, name: str = "pod-2") -> list[list[str]]:
        """The users of each entry."""
        entries = await self.entries(name)
        return [[hint.user for hint in one.hints] for one in entries if isinstance(one, Hints)]

    def counted(self, result: str) -> float:
        labels = {"result": result}
        return self._metrics.registry.get_sample_value("pushserver_hints_total", labels) or 0.0


@pytest.fixture
def bench(stores: Stores, metrics: Metrics) -> Bench:
    return Bench(stores, metrics)


@pytest.fixture(autouse=True)
def _pauses_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds_module, "PAUSE_S", 0.01)


def users(count: int) -> list[str]:
    return [f"user-{number}" for number in range(count)]


def _names(pod: str, arguments: tuple[object, ...]) -> bool:
    return pod in str(arguments)


# -- many in an entry


@pytest.mark.gen_test
async def test_hints_of_one_turn_of_the_loop_share_an_entry_of_each_pod(bench: Bench) -> None:
    await bench.pod("pod-2", 7)
    await bench.pod("pod-3", 8)
    await asyncio.gather(
        *(bench.hint(user, pods={"pod-2": 7, "pod-3": 8}) for user in users(50)),
        bench.hint("bob", pods={"pod-3": 8}),
    )
    assert await bench.hinted("pod-2") == [users(50)]
    assert await bench.hinted("pod-3") == [[*users(50), "bob"]]
    assert bench.counted("taken") == 101
    assert (bench.feeds.waiting, len(bench.tasks)) == (0, 0)


@pytest.mark.gen_test
async def test_one_entry_is_under_way_to_a_pod_and_what_comes_meanwhile_goes_in_the_next(
    bench: Bench,
) -> None:
    await bench.pod()
    gate = hold(bench.commands, "feed_append")
    first = asyncio.ensure_future(bench.hint("first"))
    await gate.reached.wait()
    later = [asyncio.ensure_future(bench.hint(user)) for user in users(10)]
    for _ in range(3):
        await bench.commands.call("PING")
    assert (gate.count, bench.feeds.waiting) == (1, 10)
    gate.open()
    await asyncio.gather(first, *later)
    assert await bench.hinted() == [["first"], users(10)]


@pytest.mark.gen_test
@pytest.mark.parametrize("first", ["pod-2", "pod-3"])
async def test_a_message_is_hinted_at_when_every_pod_was_tried(bench: Bench, first: str) -> None:
    pods = {"pod-2": 7, "pod-3": 8}
    gates = {}
    for name, boot in pods.items():
        await bench.pod(name, boot)
        gates[name] = hold(bench.commands, "feed_append", only=partial(_names, name))
    hinting = asyncio.ensure_future(bench.hint(pods=pods))
    await asyncio.gather(*(gate.reached.wait() for gate in gates.values()))
    gates.pop(first).open()
    for _ in range(5):
        await bench.commands.call("PING")
    assert not hinting.done()
    gates.popitem()[1].open()
    await hinting


@pytest.mark.gen_test
async def test_who_gives_up_waiting_leaves_those_whose_hints_share_the_entry_waiting(bench: Bench) -> None:
    await bench.pod()
    gate = hold(bench.commands, "feed_append")
    one, other = (asyncio.ensure_future(bench.hint(user)) for user in ("alice", "bob"))
    await gate.reached.wait()
    one.cancel()
    await asyncio.wait({one})
    assert (one.cancelled(), other.done()) == (True, False)
    gate.open()
    await other
    assert await bench.hinted() == [["alice", "bob"]]


@pytest.mark.gen_test
async def test_a_pod_that_hangs_holds_up_no_other(bench: Bench) -> None:
    for name in ("pod-2", "pod-3"):
        await bench.pod(name)
    gate = hold(bench.commands, "feed_append", only=lambda args: KEYS.feed("pod-2") in args)
    hanging = asyncio.ensure_future(bench.hint("alice"))
    await gate.reached.wait()
    await bench.hint("bob", pods={"pod-3": 7})
    assert await bench.hinted("pod-3") == [["bob"]]
    gate.open()
    await hanging


@pytest.mark.gen_test
async def test_an_entry_holds_so_many_hints_and_no_more(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds_module, "MAX_HINTS", 4)
    await bench.pod()
    await asyncio.gather(*(bench.hint(user) for user in users(10)))
    assert await bench.hinted() == [users(10)[:4], users(10)[4:8], users(10)[8:]]


@pytest.mark.gen_test
async def test_the_text_of_a_message_goes_once_in_an_entry_with_the_time_it_goes_away(
    bench: Bench,
) -> None:
    await bench.pod()
    await asyncio.gather(
        *(bench.hint(user, text=TEXT) for user in users(3)),
        bench.hint("bob", message_id="m-2", text=(b"another", 5)),
        bench.hint("carol", message_id="m-3"),
    )
    (entry,) = await bench.entries()
    assert isinstance(entry, Hints)
    assert len(entry.hints) == 5
    assert entry.texts == {"m-1": TEXT, "m-2": (b"another", 5)}


@pytest.mark.gen_test
async def test_texts_of_an_entry_are_bounded_but_for_a_single_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds_module, "MAX_BYTES", 100)
    await bench.pod()
    sizes = (60, 40, 1, 200, 10)
    hints = (bench.hint(f"user-{size}", message_id=f"m-{size}", text=(b"x" * size, 1)) for size in sizes)
    await asyncio.gather(*hints)
    assert await bench.hinted() == [["user-60", "user-40"], ["user-1"], ["user-200"], ["user-10"]]


# -- bounds


@pytest.mark.gen_test
async def test_beyond_the_bound_hints_are_dropped_and_counted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds_module, "MAX_WAITING", 3)
    await bench.pod()
    gate = hold(bench.commands, "feed_append")
    first = asyncio.ensure_future(bench.hint("first"))
    await gate.reached.wait()
    later = [asyncio.ensure_future(bench.hint(user)) for user in users(5)]
    await eventually(lambda: bench.counted("dropped") == 2)
    assert bench.feeds.waiting == 3
    gate.open()
    await asyncio.gather(first, *later)
    assert await bench.hinted() == [["first"], users(3)]
    assert bench.feeds.waiting == 0
    await bench.hint("later")
    assert (await bench.hinted())[-1] == ["later"]


# -- what fails


@pytest.mark.gen_test
async def test_the_first_try_is_waited_for(bench: Bench) -> None:
    """So a publish is answered when the pods know, as a rule."""
    await bench.pod()
    gate = hold(bench.commands, "feed_append", answers=True)
    hinting = asyncio.ensure_future(bench.hint())
    await gate.reached.wait()
    for _ in range(3):
        await bench.commands.call("PING")
    assert not hinting.done()
    gate.open()
    await hinting


@pytest.mark.gen_test
@pytest.mark.parametrize("answers", [False, True])
async def test_what_failed_is_tried_again_behind_the_callers_back(bench: Bench, answers: bool) -> None:
    await bench.pod()
    fault = refuse(bench.commands, "feed_append", answers=answers)
    await bench.hint("alice")
    assert fault.count == 1
    await eventually(lambda: fault.count >= 3)
    fault.end()
    await eventually(lambda: bench.counted("taken") == 1)
    # Carried out without an answer, it is there several times, which changes nothing.
    told = await bench.hinted()
    assert told == [["alice"]] * (fault.count + 1 if answers else 1)


@pytest.mark.gen_test
async def test_who_comes_while_a_pod_cannot_be_told_is_not_held_up(bench: Bench) -> None:
    """Else each publish to its users would take half a minute."""
    await bench.pod()
    commands = bench.commands
    gate = hold(commands, "feed_append")
    fault = refuse(commands, "feed_append")
    first = asyncio.ensure_future(bench.hint("first"))
    await eventually(first.done)
    fault.end()  # from now on it hangs
    await gate.reached.wait()
    behind = asyncio.ensure_future(bench.hint("behind"))
    await eventually(behind.done)
    assert bench.feeds.waiting == 1
    gate.open()
    await eventually(lambda: bench.counted("taken") == 2)
    assert await bench.hinted() == [["first"], ["behind"]]
    # And when it is told again, the first try is waited for again.
    again = hold(commands, "feed_append")
    waits = asyncio.ensure_future(bench.hint("waits"))
    await again.reached.wait()
    await commands.call("PING")
    assert not waits.done()
    again.open()
    await waits


@pytest.mark.gen_test
async def test_who_waits_behind_an_entry_that_fails_is_let_go(bench: Bench) -> None:
    await bench.pod()
    fault = refuse(bench.commands, "feed_append")
    gate = hold(bench.commands, "feed_append")
    first = asyncio.ensure_future(bench.hint("first"))
    await gate.reached.wait()
    behind = asyncio.ensure_future(bench.hint("behind"))
    await bench.commands.call("PING")
    assert not behind.done()
    gate.open()
    await asyncio.gather(first, behind)
    assert bench.counted("taken") == 0
    fault.end()
    await eventually(lambda: bench.counted("taken") == 2)


@pytest.mark.gen_test
async def test_hints_that_fail_for_too_long_are_given_up_each_after_a_try_of_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then the rescan has found the messages."""
    monkeypatch.setattr(feeds_module, "GIVE_UP_S", 0.0)
    await bench.pod()
    fault = refuse(bench.commands, "feed_append")
    await asyncio.gather(*(bench.hint(user) for user in users(3)))
    await eventually(lambda: bench.counted("failed") == 3)
    await bench.hint("later")
    await eventually(lambda: bench.counted("failed") == 4)
    assert fault.count >= 2
    await eventually(lambda: len(bench.tasks) == 0)
    assert bench.feeds.waiting == 0


# -- the dead, and those that are about to be there


async def be_present(bench: Bench, boot: int, user: str = "alice", pod: str = "pod-2") -> None:
    await PresenceStore(bench.commands, KEYS, pod).write(boot, user, 1, 0)


async def pods_of(bench: Bench, user: str = "alice") -> set[str]:
    return set(await bench.stores.presence.pods_of(user))


@pytest.mark.gen_test
async def test_a_dead_pod_is_taken_out_of_the_presence_of_who_was_to_be_hinted(bench: Bench) -> None:
    for user in ("alice", "bob", "carol"):
        await be_present(bench, 7, user)
    await bench.pod("pod-3")
    await be_present(bench, 7, "alice", "pod-3")
    await asyncio.gather(bench.hint("alice", pods={"pod-2": 7, "pod-3": 7}), bench.hint("bob"))
    assert await pods_of(bench, "alice") == {"pod-3"}
    assert await pods_of(bench, "bob") == set()
    assert await pods_of(bench, "carol") == {"pod-2"}
    assert (bench.counted("dead"), bench.counted("taken")) == (2, 1)


@pytest.mark.gen_test
async def test_presence_of_a_newer_boot_than_was_read_is_not_removed(bench: Bench) -> None:
    """The pod is back: it came after presence was read."""
    await be_present(bench, 8)
    await bench.hint(pods={"pod-2": 7})
    assert bench.counted("dead") == 1
    assert await pods_of(bench) == {"pod-2"}


@pytest.mark.gen_test
async def test_presence_that_could_not_be_read_is_removed_of_a_dead_pod(bench: Bench) -> None:
    await bench.commands.call("HSET", KEYS.presence("alice"), "alice:pod-2", "no record")
    await bench.hint(pods={"pod-2": 0})
    assert await pods_of(bench) == set()


@pytest.mark.gen_test
async def test_a_pod_that_is_about_to_make_its_feed_keeps_its_users(bench: Bench) -> None:
    """It looks at everything when it has made it."""
    await LeaseStore(bench.commands, KEYS, "pod-2", 60_000).take(7, {"host": "h"})
    await be_present(bench, 7)
    await bench.hint()
    assert bench.counted("no_feed") == 1
    assert await pods_of(bench) == {"pod-2"}


@pytest.mark.gen_test
async def test_a_removal_that_fails_harms_nobody_and_is_left_to_the_reaper(bench: Bench) -> None:
    for user in ("alice", "bob"):
        await be_present(bench, 7, user)
    refuse(bench.commands, "presence_remove", only=lambda args: KEYS.presence("alice") in args)
    await asyncio.gather(bench.hint("alice"), bench.hint("bob"))
    assert (await pods_of(bench, "alice"), await pods_of(bench, "bob")) == ({"pod-2"}, set())


# -- orders


@pytest.mark.gen_test
async def test_who_tells_pods_knows_which_of_them_were_reached(bench: Bench) -> None:
    await bench.pod("pod-2")
    await bench.pod("pod-3")
    assert await bench.feeds.tell(["pod-2", "none", "pod-3"], Kick("alice")) == ["pod-2", "pod-3"]
    for name in ("pod-2", "pod-3"):
        assert await bench.entries(name) == [Kick("alice")]
    assert await bench.feeds.tell([], Kick("alice")) == []


@pytest.mark.gen_test
async def test_an_order_that_failed_is_told_to_who_gave_it(bench: Bench) -> None:
    await bench.pod()
    refuse(bench.commands, "feed_append", times=1)
    with pytest.raises(StoreUnavailableError):
        await bench.feeds.tell(["pod-2"], Kick("alice"))
    assert await bench.feeds.tell(["pod-2"], Kick("alice")) == ["pod-2"]


# -- the end


@pytest.mark.gen_test
async def test_a_pod_that_closes_keeps_nobody_waiting(bench: Bench) -> None:
    await bench.pod()
    gate = hold(bench.commands, "feed_append")
    waiting = [asyncio.ensure_future(bench.hint("first"))]
    await gate.reached.wait()
    waiting += [asyncio.ensure_future(bench.hint(user)) for user in users(3)]
    await eventually(lambda: bench.feeds.waiting == 3)
    await bench.tasks.close()
    await asyncio.gather(*waiting)
    gate.open()
    # Nothing begins any more, and nobody waits for it.
    await bench.hint("too late")
    assert (bench.feeds.waiting, len(bench.tasks), bench.feeds._outboxes) == (0, 0, {})
