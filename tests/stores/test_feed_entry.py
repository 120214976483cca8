"""Entries of a feed come back as they were written; whatever else stands there is nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushserver.core.categories import KINDS, Categories, parse_categories
from pushserver.core.jsontext import dump
from pushserver.core.names import check_username
from pushserver.stores.feed_entry import (
    Ask,
    FeedEntry,
    Hint,
    Hints,
    Kick,
    Push,
    Recategorize,
    decode,
    encode,
)


def is_username(name: str) -> bool:
    try:
        check_username(name)
    except ValueError:
        return False
    return True


usernames = st.text(min_size=1, max_size=30).filter(is_username)
message_ids = st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True)
values = st.lists(st.text(min_size=1, max_size=10).filter(str.isprintable), min_size=1, max_size=3)
categories = st.dictionaries(st.sampled_from(KINDS), values, max_size=3).map(parse_categories)
numbers = st.integers(0, 2**53)
hints = st.builds(Hint, usernames, numbers, message_ids)
texts = st.dictionaries(message_ids, st.tuples(st.binary(max_size=50), numbers), max_size=3)
entries = st.one_of(
    st.builds(Hints, st.lists(hints, max_size=5), texts),
    st.builds(Push, message_ids, st.binary(max_size=50), st.lists(usernames, max_size=5)),
    st.builds(Push, message_ids, st.binary(max_size=50), st.just([]), categories),
    st.builds(Kick, usernames),
    st.builds(Recategorize, usernames),
    st.builds(Ask, usernames, message_ids, st.from_regex(r"[A-Za-z0-9_-]{8,32}", fullmatch=True)),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def stored(flat: Sequence[str | bytes | int | float]) -> list[bytes]:
    """Fields and values as Redis gives them back."""
    return [item if isinstance(item, bytes) else str(item).encode() for item in flat]


@given(entries)
def test_an_entry_comes_back_as_it_was_written(entry: FeedEntry) -> None:
    assert decode(stored(encode(entry))) == entry


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=30)), max_size=4))
def test_bytes_that_nobody_here_wrote_are_nothing(fields: list[tuple[bytes, bytes]]) -> None:
    assert decode([item for field in fields for item in field]) is None


def about(entry: Any) -> bytes | None:
    try:
        return dump(entry).encode()
    except ValueError:
        return None


@given(
    st.sampled_from(["hints", "push", "kick", "categories"]),
    st.dictionaries(
        st.sampled_from(["hints", "expires", "id", "users", "user", "categories"]), anything, max_size=4
    )
    | anything,
)
def test_json_of_another_form_is_nothing_or_a_whole_entry(kind: str, said: Any) -> None:
    """Whatever comes out of it can be acted on: names are names, numbers are numbers."""
    text = about(said)
    if text is None:
        return
    entry = decode([kind.encode(), text, b"text", b"x"])
    match entry:
        case None:
            return
        case Hints(told, _):
            assert all(type(hint.seq) is int and check_username(hint.user) for hint in told)
        case Push(_, _, users, _):
            assert all(map(check_username, users))
        case Kick(user) | Recategorize(user):
            assert check_username(user)


@pytest.mark.parametrize(
    "flat",
    [
        [],
        ["boot", "7"],
        ["of-a-newer-version", "{}"],
        ["hints", ""],
        ["hints", "not JSON"],
        ["hints", "[]"],
        ["hints", "{}"],
        ["hints", '{"hints":[],"expires":[]}'],
        ["hints", '{"hints":7,"expires":{}}'],
        ["hints", '{"hints":[["alice",1]],"expires":{}}'],
        ["hints", '{"hints":[["alice","1","m-1"]],"expires":{}}'],
        ["hints", '{"hints":[["alice",true,"m-1"]],"expires":{}}'],
        ["hints", '{"hints":[["alice",1e400,"m-1"]],"expires":{}}'],
        ["hints", '{"hints":[["al\\nice",1,"m-1"]],"expires":{}}'],
        ["hints", '{"hints":[["\\ud800",1,"m-1"]],"expires":{}}'],
        ["hints", '{"hints":[["alice",1,"m 1"]],"expires":{}}'],
        ["hints", '{"hints":[],"expires":{"m-1":1}}'],
        ["hints", '{"hints":[],"expires":{"m-1":null}}', "text:m-1", "x"],
        ["push", '{"id":"m-1","users":[],"categories":null}'],
        ["push", '{"id":["m-1"],"users":[],"categories":null}', "text", "x"],
        ["push", '{"id":"m-1","users":null,"categories":null}', "text", "x"],
        ["push", '{"id":"m-1","users":[7],"categories":null}', "text", "x"],
        ["push", '{"id":"m-1","users":[],"categories":{"colour":["red"]}}', "text", "x"],
        ["kick", "{}"],
        ["kick", '{"user":7}'],
        ["kick", '{"user":""}'],
        ["categories", '{"user":null}'],
    ],
)
def test_what_is_no_entry_is_nothing(flat: list[str]) -> None:
    assert decode(stored(flat)) is None


def test_a_target_of_no_kind_means_everyone_and_is_told_from_none() -> None:
    targets: tuple[Categories | None, ...] = ({}, None)
    for target in targets:
        entry = decode(stored(encode(Push("m-1", b"x", [], target))))
        assert isinstance(entry, Push)
        assert entry.categories == target


@pytest.mark.parametrize("token", ["", "a b c d e f", "x" * 33, 7])
def test_a_question_without_a_token_that_may_be_one_is_nothing(token: object) -> None:
    assert decode(stored(["ask", dump({"user": "alice", "id": "m-1", "token": token})])) is None
