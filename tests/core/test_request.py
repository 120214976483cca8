from __future__ import annotations

import pytest

from pushserver.core.errors import PushServerError
from pushserver.core.request import HttpRequest, NoCookieError, parse_query, query_unescape
from tests.core.scaling import is_linear


def with_cookies(*lines: str) -> HttpRequest:
    return HttpRequest("GET", "/ws", headers=[("Cookie", line) for line in lines])


def test_a_header_is_found_in_any_letter_case_and_its_first_line_wins() -> None:
    request = HttpRequest("GET", "/ws", headers=[("X-A", ""), ("x-a", "second"), ("X-B", "b")])
    assert request.header("x-A") == ""
    assert request.header("x-b") == "b"
    assert request.header("X-C") == ""


def test_repeated_header_lines_are_kept_in_order() -> None:
    request = HttpRequest("GET", "/ws", headers=[("X-A", "1"), ("X-B", "b"), ("x-a", ""), ("X-A", "3")])
    assert request.header_lines("X-a") == ["1", "", "3"]
    assert request.header_lines("X-C") == ()


def test_the_repr_shows_neither_query_nor_headers_for_they_may_hold_tokens() -> None:
    request = HttpRequest("GET", "/ws", "token=secret", [("Authorization", "Bearer secret")])
    request.query_values()
    assert "secret" not in repr(request)


@pytest.mark.parametrize(
    "query, values",
    [
        ("", {}),
        ("&&", {}),
        ("a", {"a": [""]}),
        ("a=", {"a": [""]}),
        ("=v", {"": ["v"]}),
        ("a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        ("a=b=c", {"a": ["b=c"]}),
        (" a = b ", {" a ": [" b "]}),
        ("a+b=c+d", {"a b": ["c d"]}),
        ("a%2Bb=%26%3D%3b", {"a+b": ["&=;"]}),
        ("%E4%BD%BF=%e7%94%a8", {"使": ["用"]}),
        ("a=1;b=2&c=3", {"c": ["3"]}),
        ("a=%zz&b=%4&c=%&%g0=1&d=4", {"d": ["4"]}),
        ("a=%FF", {"a": ["\ufffd"]}),
        # What a client sends unescaped reaches us one character a byte.
        ("a=é".encode().decode("latin-1"), {"a": ["é"]}),
    ],
)
def test_a_query_is_parsed_by_the_rules_of_go(query: str, values: dict[str, list[str]]) -> None:
    assert parse_query(query) == values


def test_text_that_no_wire_gives_is_still_no_error() -> None:
    assert query_unescape("使") == "?"


def test_the_query_is_parsed_once() -> None:
    request = HttpRequest("GET", "/ws", "a=1")
    assert request.query_values() is request.query_values()
    assert request == HttpRequest("GET", "/ws", "a=1")


@pytest.mark.parametrize(
    "line, value",
    [
        ("a=1", "1"),
        ("b=2; a=1; a=3", "1"),
        ("\t a =1 ", "1"),
        ("a", ""),
        ("a=", ""),
        ("a=b=c", "b=c"),
        ('a="1 2"', "1 2"),
        ('a=""', ""),
        ("a=%E4%BD%BF+1", "使 1"),
        ("a=%zz; a=2", ""),
        ('a="; a=2', "2"),
        ('a=x"y; a=2', "2"),
        ("a=x\\y; a=2", "2"),
        ("a=\xe9; a=2", "2"),
        ("a=\x7f; a=2", "2"),
        ("A=0; a=2", "2"),
    ],
)
def test_a_cookie_is_read_by_the_rules_of_go(line: str, value: str) -> None:
    assert with_cookies(line).cookie("a") == value


def test_cookies_are_looked_for_in_every_cookie_line() -> None:
    assert with_cookies("b=1", "a=2", "a=3").cookie("a") == "2"


@pytest.mark.parametrize("name", ["a", "", "b c"])
def test_a_missing_cookie_is_a_key_error_that_names_it(name: str) -> None:
    with pytest.raises(NoCookieError, match=f"no cookie called {name}") as caught:
        with_cookies("b=1; =x; b c=2").cookie(name)
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, PushServerError)
    assert caught.value.name == name


def look_for_an_absent_cookie(line: str) -> None:
    with pytest.raises(NoCookieError):
        with_cookies(line).cookie("absent")


@pytest.mark.parametrize("pattern", ["x;", ";", " ", "absent=\\;", 'absent=";', '"'])
def test_the_cost_of_a_hostile_cookie_grows_with_its_length_only(pattern: str) -> None:
    assert is_linear(look_for_an_absent_cookie, pattern)


@pytest.mark.parametrize("pattern", ["%41", "%41=%41&", "a&", "=&", "&", "%", "+", ";"])
def test_the_cost_of_a_hostile_query_grows_with_its_length_only(pattern: str) -> None:
    assert is_linear(parse_query, pattern)
