from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushserver.core.jsontext import dump, parse_quick, parse_strict

texts = st.text(st.characters(codec="utf-8"), max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)

NOT_FOR_BROWSERS = [
    "NaN", "Infinity", "-Infinity", "[NaN]", '{"a":-Infinity}', "01", "-", "1.", ".5", "+1", "1e", "0x1",
    "'a'", "[1,]", '{"a":1,}', "{1:2}", "{}x", "{} {}", "", " ", "tru", '"a', '"\n"', '"a\0b"', '"\\x41"',
    '"\\ud80"', "\ufeff1", "/*a*/1",
]  # fmt: skip


@pytest.mark.parametrize("text", NOT_FOR_BROWSERS)
def test_what_no_browser_parses_is_refused(text: str) -> None:
    for sent in (text, text.encode()):
        with pytest.raises(ValueError, match=r"\(char \d+\)$|is not JSON$"):
            parse_strict(sent)


@pytest.mark.parametrize(
    "data", [b"\xff", b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', '"a"'.encode("utf-16")]
)
def test_bytes_that_are_no_utf8_are_refused(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        parse_strict(data)


@pytest.mark.parametrize("text", ["1e400", "-1e400", '{"a":[1.5,2e9999]}', "9" * 400 + ".0"])
def test_a_number_that_would_become_an_infinity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="too large"):
        parse_strict(text)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_nesting_too_deep_is_refused_not_a_crash(opening: str) -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_strict(opening * 100_000)
    with pytest.raises(ValueError, match="depth limit"):
        parse_quick(opening * 100_000)


def test_an_integer_of_too_many_digits_is_refused_both_ways() -> None:
    assert parse_strict("1" * 4300) == int("1" * 4300)
    for parse in (parse_strict, parse_quick):
        with pytest.raises(ValueError, match="4300 digits"):
            parse("1" * 4301)
    with pytest.raises(ValueError, match="4300 digits"):
        dump(10**4300)


@pytest.mark.parametrize("number", [2**53 + 1, -(2**63) - 1, 2**64, 10**30])
def test_large_integers_stay_as_they_were_sent(number: int) -> None:
    assert dump(parse_strict(str(number))) == str(number)
    assert parse_quick(str(number)) == number


def test_text_is_compact_and_kept_readable() -> None:
    assert dump({"a": [1, None, True, "é/</script>"], "b": {}}) == '{"a":[1,null,true,"é/</script>"],"b":{}}'


def test_control_characters_and_quotes_are_escaped() -> None:
    assert dump('\0\n\x1b"\\') == r'"\u0000\n\u001b\"\\"'


@given(values)
def test_what_is_dumped_is_strict_json_of_the_same_value(value: object) -> None:
    text = dump(value)
    assert json.loads(text) == value
    assert parse_strict(text.encode()) == value


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), [float("-inf")], b"x", {"a": {1, 2}}, object()],
    ids=["nan", "inf", "-inf in a list", "bytes", "set", "object"],
)
def test_what_json_has_no_form_for_is_not_dumped(value: object) -> None:
    with pytest.raises(ValueError, match=r"^not JSON: "):
        dump(value)


@pytest.mark.parametrize("value", ["\ud800", ["é\udfff"], {"\ud800": 1}, json.loads(r'"\ud83d"')])
def test_a_lone_surrogate_is_not_dumped_for_no_frame_could_hold_it(value: object) -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        dump(value)


def test_a_value_that_holds_itself_is_not_dumped() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="recursion level"):
        dump(loop)


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode(errors="surrogatepass")))
def test_no_bytes_raise_anything_but_a_value_error(data: bytes) -> None:
    for parse in (parse_strict, parse_quick):
        try:
            parse(data)
        except ValueError:
            continue


@given(values)
def test_the_quick_parser_understands_what_clients_send(value: object) -> None:
    assert parse_quick(json.dumps(value).encode()) == value
