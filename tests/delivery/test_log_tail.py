"""The tail of the log, against a naive one: whatever is appended, dropped and asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from pushserver.core.categories import Categories, matches
from pushserver.delivery import log_tail
from pushserver.delivery.log_tail import MAX_SCAN, LogTail, Targeted
from tests.callbacks import MAX_CALLBACK_S
from tests.cpu_time import at_most, measured_again

RETENTION_MS = 1000
VALUES = st.lists(st.sampled_from("123"), min_size=1, max_size=2, unique=True).map(tuple)
CATEGORIES = st.dictionaries(st.sampled_from(["vip", "hall", "co"]), VALUES, max_size=3)


def at(ms: int, seq: int = 0) -> int:
    """A place in the log."""
    return ms << 64 | seq


def tail(max_length: int = 1000) -> LogTail:
    return LogTail(max_length=max_length, retention_ms=RETENTION_MS)


def append(to: LogTail, ms: int, target: Categories | None = None, message_id: str = "") -> bool:
    return to.append(Targeted(at(ms), message_id or f"m-{ms}", target or {}), ms)


def ids(of: LogTail, position: int, have: Categories | None = None, count: int = 1000) -> list[str]:
    return [one.message_id for one in of.after(position, have or {}, count)[0]]


@dataclass
class Naive:
    """The same, slowly: a list, looked through from its beginning."""

    max_length: int
    held: list[Targeted] = field(default_factory=list)
    start: int = 0

    def append(self, message: Targeted, now_ms: int) -> bool:
        if any(one.message_id == message.message_id for one in self.held):
            return False
        self.held.append(message)
        while self.held and (
            len(self.held) > self.max_length or self.held[0].position < at(now_ms - RETENTION_MS)
        ):
            self.start = self.held.pop(0).position
        return True

    def after(self, position: int, have: Categories) -> list[str]:
        return [one.message_id for one in self.held if one.position > position and matches(one.target, have)]


STEPS = st.lists(
    st.one_of(
        # Milliseconds on, sequence on, number of the id, target.
        st.tuples(st.just("append"), st.integers(0, 400), st.integers(0, 12), CATEGORIES),
        st.tuples(st.just("look"), st.integers(-3, 12), st.integers(1, 4), CATEGORIES),
    ),
    max_size=60,
)


@given(steps=STEPS, max_length=st.integers(1, 12), scan=st.integers(1, 6))
def test_it_finds_what_a_naive_one_finds(
    steps: list[tuple[str, int, int, Categories]], max_length: int, scan: int
) -> None:
    """Page by page and look by look, from any place, for anybody."""
    real, naive = tail(max_length), Naive(max_length)
    ms, places = 10_000, [0]
    log_tail.MAX_SCAN = scan
    try:
        for what, number, other, categories in steps:
            if what == "append":
                ms += number
                places.append(max(places[-1] + 1, at(ms)))
                one = Targeted(places[-1], f"m-{other}", categories)
                assert real.append(one, ms) == naive.append(one, ms)
            else:
                begin = places[number] if 0 <= number < len(places) else places[-1]
                assert _all_after(real, begin, categories, other) == naive.after(begin, categories)
            assert (len(real), real.start, real.position) == (len(naive.held), naive.start, places[-1])
    finally:
        log_tail.MAX_SCAN = MAX_SCAN


def _all_after(of: LogTail, position: int, have: Categories, count: int) -> list[str]:
    """As who catches up asks for it."""
    found: list[str] = []
    while position < of.position:
        page, upto = of.after(position, have, count)
        assert len(page) <= count
        assert upto > position
        assert all(position < one.position <= upto for one in page)
        found += [one.message_id for one in page]
        position = upto
    assert of.after(position, have, count) == ([], position)
    return found


def test_a_target_means_any_value_within_a_kind_and_all_of_its_kinds() -> None:
    one = tail()
    append(one, 1, {"vip": ("3", "4"), "hall": ("a",)})
    append(one, 2, {"vip": ("4",)})
    append(one, 3)
    assert ids(one, 0, {"vip": ("3",), "hall": ("a", "b")}) == ["m-1", "m-3"]
    assert ids(one, 0, {"vip": ("4", "3"), "hall": ("a",)}) == ["m-1", "m-2", "m-3"]
    assert ids(one, 0, {"vip": ("4",), "hall": ("b",)}) == ["m-2", "m-3"]
    assert ids(one, 0) == ["m-3"]


def test_an_id_that_is_there_already_counts_once_and_again_when_it_was_dropped() -> None:
    one = tail(2)
    assert append(one, 1, message_id="m")
    assert not append(one, 2, message_id="m")
    assert (len(one), one.position) == (1, at(2))
    append(one, 3)
    append(one, 4)
    assert append(one, 5, message_id="m")
    assert ids(one, 0) == ["m-4", "m"]


def test_an_id_whose_content_has_expired_may_be_given_to_another_message() -> None:
    """Else that one would be answered 202 and reach nobody who is live."""
    one = tail()
    first, repeat, other = (
        Targeted(at(ms), "m", {}, expires) for ms, expires in ((1, 1001), (9, 1001), (12, 2012))
    )
    assert one.append(first, 1)
    assert not one.append(repeat, 9)
    # Whatever the clock here says of the first one.
    assert one.append(other, 12)
    assert one.after(0, {}, 10)[0] == [other]
    one._drop_first()
    assert not one.append(Targeted(at(13), "m", {}), 13)


def test_what_was_dropped_by_length_or_by_age_is_where_it_starts() -> None:
    one = tail(2)
    assert one.start == 0
    for ms in (1, 2, 3):
        append(one, ms)
    assert (ids(one, 0), one.start) == (["m-2", "m-3"], at(1))
    append(one, 2000)
    assert (ids(one, 0), one.start) == (["m-2000"], at(3))


def test_nothing_that_was_dropped_leaves_anything_behind() -> None:
    one = tail(1)
    for ms in range(1, 1000):
        append(one, ms, {"vip": (str(ms),), "hall": ("a", str(ms))})
    assert (len(one._rows), len(one._ids), len(one)) == (1, 1, 1)
    one.begin(7, 9)
    assert (len(one._rows), len(one._ids), len(one)) == (0, 0, 0)
    assert (one.start, one.position) == (7, 9)


def test_a_cursor_grows_old_before_the_log_is_trimmed_beyond_it() -> None:
    """By length: at the latest when three quarters are full behind it. By age: after half the time."""
    one = tail(100)
    for ms in range(1, 1001):
        append(one, ms)
        cursor = at(max(0, ms - 75))
        assert cursor <= at(0) or one.old(ms) > cursor
        assert one.old(ms) <= max(at(max(0, ms - 25)), 0)
    assert tail().old(10_000) == at(9500)


@measured_again
def test_one_look_is_short_however_few_of_many_messages_mean_somebody() -> None:
    one = tail(100_000)
    for number in range(100_000):
        one.append(Targeted(at(1, number + 1), f"m-{number}", {"vip": ("3",), "hall": ("x",)}), 1)
    looks, position = 0, 0

    def look() -> None:
        nonlocal position
        found, position = one.after(position, {"vip": ("3",), "hall": ("y",)}, 100)
        assert found == []

    while position < one.position:
        at_most(MAX_CALLBACK_S, look)
        looks += 1
    assert looks == 100_000 // MAX_SCAN
