from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from pushserver.core.context_keys import ContextKeys


class Notes(ContextKeys):
    def __init__(self) -> None:
        self.keys = {}


@pytest.fixture
def ctx() -> Notes:
    return Notes()


@pytest.mark.parametrize(
    "gin, python",
    [
        ("Set", "set"),
        ("Get", "get"),
        ("MustGet", "must_get"),
        ("Delete", "delete"),
        ("Value", "value"),
        ("GetString", "get_string"),
        ("GetBool", "get_bool"),
        ("GetInt", "get_int"),
        ("GetInt64", "get_int64"),
        ("GetFloat64", "get_float64"),
        ("GetTime", "get_time"),
        ("GetDuration", "get_duration"),
        ("GetStringSlice", "get_string_slice"),
        ("GetStringMap", "get_string_map"),
        ("GetStringMapString", "get_string_map_string"),
        ("GetStringMapStringSlice", "get_string_map_string_slice"),
    ],
)
def test_each_method_answers_to_gins_spelling(gin: str, python: str) -> None:
    assert getattr(ContextKeys, gin) is getattr(ContextKeys, python)


@pytest.mark.parametrize("value", ["v", 0, "", None, False])
def test_what_was_set_is_there_whatever_it_is(ctx: Notes, value: object) -> None:
    ctx.set("k", "replaced")
    ctx.set("k", value)
    assert ctx.get("k") == (value, True)
    assert ctx.must_get("k") is value
    assert ctx.keys == {"k": value}


def test_a_missing_key_is_told_apart_from_a_stored_none(ctx: Notes) -> None:
    assert ctx.get("k") == (None, False)
    assert ctx.keys == {}


def test_must_get_of_a_missing_key_raises_and_names_it(ctx: Notes) -> None:
    with pytest.raises(KeyError, match="key user does not exist"):
        ctx.must_get("user")


def test_any_hashable_is_a_key_and_nothing_else(ctx: Notes) -> None:
    ctx.set(("a", 1), "v")
    assert ctx.get(("a", 1)) == ("v", True)
    with pytest.raises(TypeError):
        ctx.set([], "v")  # type: ignore[arg-type]


def test_deleting_a_key_twice_is_no_error(ctx: Notes) -> None:
    ctx.set("k", "v")
    ctx.delete("k")
    ctx.delete("k")
    assert ctx.get("k") == (None, False)


def test_value_finds_text_keys_only(ctx: Notes) -> None:
    ctx.set("k", "v")
    ctx.set(1, "v")
    assert (ctx.value("k"), ctx.value(1), ctx.value("missing")) == ("v", None, None)


ZEROS = {
    "get_string": "",
    "get_bool": False,
    "get_int": 0,
    "get_int64": 0,
    "get_float64": 0.0,
    "get_time": datetime(1, 1, 1, tzinfo=UTC),
    "get_duration": timedelta(0),
    "get_string_slice": [],
    "get_string_map": {},
    "get_string_map_string": {},
    "get_string_map_string_slice": {},
}


@pytest.mark.parametrize("getter", ZEROS)
def test_a_missing_key_none_and_a_strange_type_all_give_the_zero_value(ctx: Notes, getter: str) -> None:
    ctx.set("none", None)
    ctx.set("strange", object())
    for key in ("missing", "none", "strange"):
        answer = getattr(ctx, getter)(key)
        assert answer == ZEROS[getter]
        assert type(answer) is type(ZEROS[getter])


@pytest.mark.parametrize(
    "getter, value",
    [
        ("get_string", b"v"),
        ("get_string", 1),
        ("get_bool", 1),
        ("get_int", True),
        ("get_int", 4.5),
        ("get_int", "4"),
        ("get_int64", True),
        ("get_float64", 7),
        ("get_time", 1700000000),
        ("get_duration", 5),
        ("get_string_slice", "abc"),
        ("get_string_slice", ("a",)),
        ("get_string_slice", ["a", 1]),
        ("get_string_map", {1: "a"}),
        ("get_string_map", [("a", 1)]),
        ("get_string_map_string", {"a": 1}),
        ("get_string_map_string", {1: "a"}),
        ("get_string_map_string_slice", {"a": "b"}),
        ("get_string_map_string_slice", {"a": ["b", 1]}),
        ("get_string_map_string_slice", {1: ["b"]}),
    ],
)
def test_a_value_of_another_type_is_never_converted(ctx: Notes, getter: str, value: object) -> None:
    ctx.set("k", value)
    assert getattr(ctx, getter)("k") == ZEROS[getter]
    assert type(getattr(ctx, getter)("k")) is type(ZEROS[getter])


@pytest.mark.parametrize(
    "getter, value",
    [
        ("get_string", "v"),
        ("get_bool", True),
        ("get_int", -7),
        ("get_int64", 2**40),
        ("get_float64", 4.5),
        ("get_time", datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=8)))),
        ("get_duration", timedelta(seconds=3)),
        ("get_string_slice", ["a", ""]),
        ("get_string_map", {"a": 1, "b": None}),
        ("get_string_map_string", {"a": "b"}),
        ("get_string_map_string_slice", {"a": ["b"], "c": []}),
    ],
)
def test_a_value_of_that_very_type_comes_back_itself(ctx: Notes, getter: str, value: object) -> None:
    ctx.set("k", value)
    assert getattr(ctx, getter)("k") is value


@pytest.mark.parametrize("getter", [getter for getter, zero in ZEROS.items() if zero in ([], {})])
def test_empty_lists_and_dictionaries_are_never_shared(ctx: Notes, getter: str) -> None:
    first: Any = getattr(ctx, getter)("missing")
    assert getattr(ctx, getter)("missing") is not first
