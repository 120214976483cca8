"""JSON checked where it lies: as strict as the parser that clients' frames go through, and stricter."""

from __future__ import annotations

import json
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pushserver.core.errors import InvalidFieldError
from pushserver.core.jsontext import parse_strict
from pushserver.core.jsonwalk import MAX_DEPTH, STEP, JsonWalk, Steps

_Result = TypeVar("_Result")


def finished(steps: Steps[_Result]) -> tuple[_Result, int]:
    """The result, and the number of steps it took."""
    taken = 1
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value, taken
        taken += 1


def checked(text: str) -> str:
    """The value in `text`, as a request's field is read."""
    walk = JsonWalk(text)
    walk.field = "content"
    value, _ = finished(walk.value())
    walk.end()
    return value


def refused(text: str) -> str:
    with pytest.raises(InvalidFieldError) as caught:
        checked(text)
    assert caught.value.field == "content"
    return caught.value.reason


GOOD = [
    "0",
    "-0",
    "-1.50e+3",
    "1E-5",
    "12345678901234567890123",
    "1.10",
    "true",
    "false",
    "null",
    '""',
    '"a"',
    '"\\u0000 \\ud83d\\ude00 \\n\\/"',
    '"\u2028 \U0001f600 </script>"',
    '"' + "x" * 5000 + '"',
    '"' + "\\n" * 5000 + '"',
    "[]",
    "{}",
    "[ ]",
    "{ }",
    '[1 , 2,\t"a" ]',
    '{"a" : {"a":[{"a":1}]} ,\n"b":2}',
    '{"":0,"__proto__":1}',
    '{"' + "k" * 3000 + '":1}',
    "[" * MAX_DEPTH + "]" * MAX_DEPTH,
    "1" * 309,
    "1e308",
]


@pytest.mark.parametrize("text", GOOD)
def test_json_is_taken_as_it_stands(text: str) -> None:
    assert checked(text) == text
    assert checked(f" \r\n\t{text} \n") == text
    assert checked(f'[{text},{{"k":{text}}}]' if text.count("[") < 9 else text) != ""
    parse_strict(text)


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "cut off"),
        (" ", "cut off"),
        ("NaN", "NaN"),
        ("[Infinity]", "Infinity"),
        ('{"a":-Infinity}', "-Infinity"),
        ("1e400", "too large"),
        ("[1,-1e999]", "too large"),
        ("1" * 310, "too large"),
        ("1" * 4301, "number"),
        ("1" * 100_000, "number"),
        ("01", "character 0"),
        ("-", "number"),
        ("1.", "number"),
        ("+1", "character 0"),
        (".5", "character 0"),
        ("0x1", "character 1"),
        ("1 2", "character 2"),
        ("[1]]", "character 3"),
        ('{"a":1}{}', "character 7"),
        ("[1,]", "character 3"),
        ("[,1]", "character 1"),
        ("[1 2]", "character 3"),
        ("[1", "cut off"),
        ("[1,", "cut off"),
        ('{"a":1,}', "character 7"),
        ('{"a" 1}', "character 5"),
        ('{"a"}', "character 4"),
        ("{a:1}", "character 1"),
        ("{1:1}", "character 1"),
        ('{"a":1', "cut off"),
        ("{", "cut off"),
        ("[1}", "character 2"),
        ('{"a":1]', "character 6"),
        ("'a'", "character 0"),
        ('"a', "cut off"),
        ('"a\\', "broken escape"),
        ('"a\\x41"', "broken escape"),
        ('"\\u12"', "broken escape"),
        ('"a\nb"', "control character"),
        ('"' + "x" * 5000 + '\x00"', "control character"),
        ('"\\ud800"', "lone surrogate"),
        ('"\\udc00"', "lone surrogate"),
        ('"\\uDBFF\\u0041"', "lone surrogate"),
        ('{"\\ud800":1}', "lone surrogate"),
        ('{"a":1,"a":2}', "'a' twice"),
        ('{"a":1,"\\u0061":2}', "'a' twice"),
        ('[{"b":{"x":1,"y":2,"x":3}}]', "'x' twice"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "levels"),
        ('{"a":' * 200_000, "levels"),
        ("\ufeff1", "character 0"),
        ("/**/1", "character 0"),
        ("True", "character 0"),
        ("1\x00", "character 1"),
        ("\x00", "character 0"),
        ("\u00a01", "character 0"),
    ],
)
def test_what_is_no_json_or_no_browser_reads_is_refused(text: str, said: str) -> None:
    assert said in refused(text)


def test_a_name_may_come_again_in_another_object() -> None:
    assert checked('[{"a":{"a":1}},{"a":2}]')


def test_a_large_text_is_checked_in_steps() -> None:
    for text in ("[" + "0," * STEP * 3 + "0]", '"' + "\\n" * 20_000 + '"', '{"' + "k" * 2_000_000 + '":1}'):
        walk = JsonWalk(text)
        value, steps = finished(walk.value())
        assert value == text
        assert steps >= 3, text[:10]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(json_values, st.booleans(), st.sampled_from([None, 1]))
def test_whatever_the_library_writes_is_taken(value: object, ascii_only: bool, indent: int | None) -> None:
    try:
        text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
        text.encode()
    except UnicodeEncodeError:
        return
    if "\\ud" not in text:
        assert checked(text) == text


@given(st.text(alphabet='{}[]",:\\u0123456789eE+-.dDaAbB ntrfl\n\x00\ufeff', max_size=30))
@example('"\\ud8001"')
def test_whatever_is_taken_the_strict_parser_takes_as_well(text: str) -> None:
    try:
        value = checked(text)
    except InvalidFieldError:
        return
    assert json.dumps(parse_strict(text)) == json.dumps(parse_strict(value))


def as_the_library_says(text: str) -> bool:
    """The same judgement, by the standard library's parser with hooks."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    try:
        parse_strict(text)
        json.dumps(json.loads(text, object_pairs_hook=once, parse_int=float), ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


@given(json_values, st.data())
def test_a_text_with_a_character_changed_is_judged_as_the_library_does(
    value: object, data: st.DataObject
) -> None:
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.sampled_from(list('{}[]",:\\0eE+-. tnuD\x01'))) + text[at + 1 :]
    try:
        checked(changed)
        taken = True
    except InvalidFieldError:
        taken = False
    assert taken == as_the_library_says(changed)
