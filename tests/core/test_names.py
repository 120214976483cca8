from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pushserver.core.errors import InvalidNameError
from pushserver.core.names import (
    check_message_id,
    check_pod_name,
    check_username,
    key_safe,
    pod_name_from_host,
)

# Usernames


@pytest.mark.parametrize(
    "name",
    ["a", "x" * 128, "é" * 64, "王小明", "Ann Lee", "a:b", "{U}", "100%", "</script>", "😀", "a\u0301"],
)
def test_a_username_may_be_any_text_of_128_bytes(name: str) -> None:
    assert check_username(name) == name


@pytest.mark.parametrize("name", ["", None, 7, b"ann", ["ann"], True])
def test_a_username_must_be_a_text_with_something_in_it(name: object) -> None:
    with pytest.raises(InvalidNameError, match=r"^username: must be a non-empty text$"):
        check_username(name)


@pytest.mark.parametrize("name", ["x" * 129, "é" * 64 + "x", "😀" * 33])
def test_a_username_is_measured_in_bytes(name: str) -> None:
    with pytest.raises(InvalidNameError, match="longer than 128 bytes"):
        check_username(name)


def test_a_lone_surrogate_is_no_username() -> None:
    with pytest.raises(InvalidNameError, match="lone surrogate"):
        check_username("ann\udfff")


@pytest.mark.parametrize(
    "char",
    [
        "\0",
        "\t",
        "\n",
        "\r",
        "\x1b",
        "\x7f",
        "\x85",
        "\x9b",
        "\u200b",
        "\u202e",
        "\u2028",
        "\u2029",
        "\u2066",
        "\ufeff",
    ],
)
@pytest.mark.parametrize("around", ["ann{}lee", "王{}", "{}a"])
def test_what_breaks_a_log_line_or_turns_a_terminal_around_is_no_username(around: str, char: str) -> None:
    with pytest.raises(InvalidNameError, match=rf"control character U\+{ord(char):04X}"):
        check_username(around.format(char))


def test_a_refusal_does_not_repeat_the_name() -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_username("secret\n")
    assert "secret" not in str(caught.value)
    assert caught.value.kind == "username"


# Message ids


@pytest.mark.parametrize("value", ["a", "A-z.0_9:x", "x" * 64])
def test_a_message_id_is_of_plain_characters(value: str) -> None:
    assert check_message_id(value) == value


@pytest.mark.parametrize(
    "value", ["", "x" * 65, "a b", "a\n", "\na", "é", "٣", "{a}", "a/b", 'a"', None, 7, b"a"]
)
def test_anything_else_is_no_message_id(value: object) -> None:
    with pytest.raises(InvalidNameError, match=r"^id: "):
        check_message_id(value)


# Pod names


@pytest.mark.parametrize("value", ["a", "0", "pod-1.example", "a--b", "x" * 63])
def test_a_pod_name_is_like_a_host_name(value: str) -> None:
    assert check_pod_name(value) == value


@pytest.mark.parametrize(
    "value", ["", "-a", "a-", ".a", "a.", "A", "a:b", "a_b", "a\n", "é", "x" * 64, None, 7]
)
def test_anything_else_is_no_pod_name(value: object) -> None:
    with pytest.raises(InvalidNameError, match=r"^pod name: "):
        check_pod_name(value)


@pytest.mark.parametrize(
    "host, name",
    [
        ("web1", "web1-8000"),
        ("Web_1.Example.COM", "web-1.example.com-8000"),
        ("-web.", "web-8000"),
        ("", "pod-8000"),
        ("王", "pod-8000"),
        ("x" * 80, "x" * 58 + "-8000"),
        ("x" * 57 + "-yy", "x" * 57 + "-8000"),
    ],
)
def test_the_default_pod_name_is_made_of_host_and_port(host: str, name: str) -> None:
    assert pod_name_from_host(host, 8000) == name


@given(st.text(max_size=80), st.integers(0, 65535))
def test_any_host_name_gives_a_pod_name(host: str, port: int) -> None:
    name = pod_name_from_host(host, port)
    assert check_pod_name(name).endswith(f"-{port}")


# In Redis keys

FROM_KEY = {"%25": "%", "%7B": "{", "%7D": "}"}
tricky = st.text(st.sampled_from("%{}257BDbd:a") | st.characters(codec="utf-8"), max_size=30)


@pytest.mark.parametrize(
    "name, key", [("ann", "ann"), ("{a}", "%7Ba%7D"), ("100%", "100%25"), ("%7B", "%257B"), ("a:b", "a:b")]
)
def test_percent_signs_and_braces_are_encoded_in_a_key_and_nothing_else(name: str, key: str) -> None:
    assert key_safe(name) == key


@settings(max_examples=500)
@given(tricky)
def test_a_key_gives_back_the_one_name_it_was_made_of(name: str) -> None:
    """A left inverse, so no two names share a key; and no name opens or closes a hash tag."""
    key = key_safe(name)
    assert re.sub("%25|%7B|%7D", lambda escape: FROM_KEY[escape.group()], key) == name
    assert not set(key) & set("{}")


@settings(max_examples=500)
@given(tricky, tricky)
def test_two_names_have_two_keys(one: str, other: str) -> None:
    assert (key_safe(one) == key_safe(other)) == (one == other)


@pytest.mark.parametrize("name", ["نمی\u200cخواهم", "👩\u200d🚀"])
def test_joiners_stay_in_names_that_need_them(name: str) -> None:
    assert check_username(name) == name
