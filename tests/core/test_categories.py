from __future__ import annotations

import pytest

from pushserver.core.categories import KINDS, NO_CATEGORIES, Categories, matches, parse_categories
from pushserver.core.errors import InvalidNameError


def test_the_kinds_are_those_of_the_contract() -> None:
    assert KINDS == ("vip", "level", "hall", "agent", "sa", "co", "sc")


@pytest.mark.parametrize(
    "raw, parsed",
    [
        ({}, NO_CATEGORIES),
        ({"vip": "3"}, {"vip": ("3",)}),
        ({"vip": 3}, {"vip": ("3",)}),
        ({"level": -1}, {"level": ("-1",)}),
        ({"hall": ["a", "b", "a"]}, {"hall": ("a", "b")}),
        ({"hall": [3, "3"]}, {"hall": ("3",)}),
        ({"vip": []}, {}),
        ({"agent": "王 小明"}, {"agent": ("王 小明",)}),
        ({"co": "x" * 128, "sc": "é" * 64}, {"co": ("x" * 128,), "sc": ("é" * 64,)}),
    ],
)
def test_a_value_may_be_a_text_an_integer_or_a_list_of_them(raw: object, parsed: Categories) -> None:
    assert parse_categories(raw) == parsed


def test_kinds_come_in_one_order_however_they_were_given() -> None:
    assert list(parse_categories(dict.fromkeys(reversed(KINDS), "1"))) == list(KINDS)


@pytest.mark.parametrize("raw", [None, [], "vip", 3, [("vip", "3")]])
def test_categories_must_be_an_object(raw: object) -> None:
    with pytest.raises(InvalidNameError, match=r"^categories: must be an object"):
        parse_categories(raw)


@pytest.mark.parametrize("kind", ["VIP", "", "__proto__", 7, "\ud800\n"])
def test_an_unknown_kind_is_named_on_one_short_line(kind: object) -> None:
    with pytest.raises(InvalidNameError, match=r"^categories: unknown kind") as caught:
        parse_categories({"vip": "1", kind: "1"})
    assert str(caught.value).isprintable()


def test_an_unknown_kind_is_cut_in_the_refusal() -> None:
    with pytest.raises(InvalidNameError) as caught:
        parse_categories({"x" * 10_000: "1"})
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("value", [None, True, 1.5, {}, {"a": 1}, ["a", None], [["a"]], b"a"])
def test_a_value_of_another_type_is_refused_by_its_kind(value: object) -> None:
    with pytest.raises(
        InvalidNameError, match=r"^categories\.hall: each value must be a text or an integer$"
    ):
        parse_categories({"hall": value})


@pytest.mark.parametrize("value", ["", "x" * 129, "é" * 65, "a\nb", "\0", "\x1b[0m", "\u202e", 10**128])
def test_a_value_that_is_empty_long_or_unprintable_is_refused_by_its_kind(value: object) -> None:
    with pytest.raises(
        InvalidNameError, match=r"^categories\.sa: each value must be 1 to 128 bytes of printable"
    ):
        parse_categories({"sa": value})


@pytest.mark.parametrize("value", ["\ud800", 10**5000], ids=["lone surrogate", "endless integer"])
def test_a_value_that_has_no_text_is_refused_by_its_kind(value: object) -> None:
    with pytest.raises(InvalidNameError, match=r"^categories\.co: has no UTF-8 text$"):
        parse_categories({"co": value})


def test_a_kind_has_at_most_a_hundred_values() -> None:
    assert len(parse_categories({"vip": list(range(100))})["vip"]) == 100
    with pytest.raises(InvalidNameError, match=r"^categories\.vip: has more than 100 values$"):
        parse_categories({"vip": list(range(101))})


@pytest.mark.parametrize(
    "target, have, meant",
    [
        ({"vip": ("3",)}, {"vip": ("3",)}, True),
        ({"vip": ("3",)}, {"vip": ("4",)}, False),
        ({"vip": ("3",)}, {}, False),
        ({"vip": ("3",)}, {"level": ("3",)}, False),
        ({"vip": ("3", "4")}, {"vip": ("4", "5")}, True),
        ({"vip": ("3",), "hall": ("a",)}, {"vip": ("3",), "hall": ("a", "b")}, True),
        ({"vip": ("3",), "hall": ("a",)}, {"vip": ("3",)}, False),
        ({"vip": ("3",), "hall": ("a",)}, {"vip": ("3",), "hall": ("b",)}, False),
        ({}, {"vip": ("3",)}, True),
        ({}, {}, True),
    ],
)
def test_a_target_means_any_value_of_each_of_its_kinds(
    target: Categories, have: Categories, meant: bool
) -> None:
    assert matches(target, have) is meant
