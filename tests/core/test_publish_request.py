"""A request to publish, field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pushserver.core.errors import InvalidFieldError
from pushserver.core.publication import Publication
from pushserver.core.publish_request import PublishRules, checked_json, content_text, parse_publish
from tests.core.test_jsonwalk import finished

RULES = PublishRules(max_users=3, ttl_s=600, max_ttl_s=3600)


def parsed(body: bytes | dict[str, Any]) -> Publication:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return finished(parse_publish(text, RULES, lambda: "made"))[0]


def refused(body: bytes | dict[str, Any]) -> InvalidFieldError:
    with pytest.raises(InvalidFieldError) as caught:
        parsed(body)
    return caught.value


def asking(**fields: Any) -> dict[str, Any]:
    return {"to": {"users": ["alice"]}, "content": 1, **fields}


def test_what_is_not_said_has_its_default() -> None:
    assert parsed(asking()) == Publication("made", "1", 600, ("alice",), None, True)
    assert parsed(asking()).id_is_new


def test_every_field_is_taken() -> None:
    asked = {"offline": False, "ttl": 3600, "content": "x", "to": {"users": ["b", "a", "b"]}, "id": "m:1"}
    assert not parsed(asked).id_is_new
    assert parsed(asked) == Publication("m:1", '"x"', 3600, ("b", "a"), None, False)


def test_whole_seconds_may_be_written_as_json_likes() -> None:
    for text in (b"60", b"60.0", b"6e1", b" 60 "):
        asked = b'{"to":{"users":["a"]},"content":1,"ttl":' + text + b"}"
        assert parsed(asked).ttl_s == 60


def test_it_may_be_for_categories_or_everyone() -> None:
    to = {"categories": {"level": 7, "vip": ["3", 4]}}
    assert parsed({"to": to, "content": 1}).categories == {"vip": ("3", "4"), "level": ("7",)}
    assert parsed({"to": {"everyone": True}, "content": 1}).categories == {}


@pytest.mark.parametrize(
    "content",
    [
        '{"n": 12345678901234567890, "d" : 1.10,\n"e":1E5}',
        "  [ 1 ,2 ]  ",
        '"\\u00e9 \u00e9 \\/ </script> \u2028"',
        '{"b":1,"a":2}',
        "null",
        '{"id":"x","to":{"users":[]},"content":{"content":1}}',
    ],
)
def test_the_content_goes_on_just_as_it_was_sent(content: str) -> None:
    for body in (
        f'{{"to":{{"everyone":true}},"content":{content}}}',
        f'{{ "content" :{content}, "to":{{"everyone":true}} }}\n',
    ):
        assert parsed(body.encode()).content == content.strip()


@pytest.mark.parametrize(
    "body, field",
    [
        (b"", ""),
        (b"[]", ""),
        (b"null", ""),
        (b'"{}"', ""),
        (b"{}", "to"),
        (b'{"to":{"users":["a"]}}', "content"),
        (b'{"content":1}', "to"),
        (b'\xef\xbb\xbf{"to":{"users":["a"]},"content":1}', ""),
        (b'{"to":{"users":["a"]},"content":1} x', ""),
        (b'{"to":{"users":["a"]},"content":1}{}', ""),
        (b'{"to":{"users":["a"]},"content":"\xff"}', ""),
        (b'{"to":{"users":["a"]},"content":1,"content":2}', ""),
        (b'{"to":{"users":["a"]},"to":{"users":["a"]},"content":1}', ""),
        ('{"to":{"users":["a"]},"content":1}'.encode("utf-16"), ""),
        (asking(Id="x"), "Id"),
        (asking(__proto__=1), "__proto__"),
        (asking(id=None), "id"),
        (asking(id=""), "id"),
        (asking(id=7), "id"),
        (asking(id="a b"), "id"),
        (asking(id="x" * 65), "id"),
        (asking(ttl=0), "ttl"),
        (asking(ttl=3601), "ttl"),
        (asking(ttl=-1), "ttl"),
        (asking(ttl=1.5), "ttl"),
        (asking(ttl=True), "ttl"),
        (asking(ttl="60"), "ttl"),
        (asking(ttl=None), "ttl"),
        (asking(ttl=10**300), "ttl"),
        (b'{"to":{"users":["a"]},"content":1,"ttl":1e4}', "ttl"),
        (b'{"to":{"users":["a"]},"content":1,"ttl":' + b"9" * 5000 + b"}", "ttl"),
        (asking(offline=None), "offline"),
        (asking(offline=0), "offline"),
        (asking(offline="true"), "offline"),
        (asking(to=[]), "to"),
        (asking(to="alice"), "to"),
        (asking(to={}), "to"),
        (asking(to={"users": ["a"], "everyone": True}), "to"),
        (asking(to={"user": ["a"]}), "to.user"),
        (b'{"to":{"users":["a"],"users":["b"]},"content":1}', "to"),
        (asking(to={"users": []}), "to.users"),
        (asking(to={"users": "a"}), "to.users"),
        (asking(to={"users": {"a": 1}}), "to.users"),
        (asking(to={"users": ["a", "b", "c", "d"]}), "to.users"),
        (asking(to={"users": ["a", "a", "a", "a"]}), "to.users"),
        (asking(to={"users": ["a", None]}), "to.users[1]"),
        (asking(to={"users": ["a", ["b"]]}), "to.users[1]"),
        (asking(to={"users": ["a", "b", ""]}), "to.users[2]"),
        (asking(to={"users": ["a\nb"]}), "to.users[0]"),
        (asking(to={"users": ["\u202e"]}), "to.users[0]"),
        (asking(to={"users": ["x" * 129]}), "to.users[0]"),
        (asking(to={"users": ["\u00e9" * 65]}), "to.users[0]"),
        (b'{"to":{"users":["\\ud800"]},"content":1}', "to.users[0]"),
        (b'{"to":{"users":["a",]},"content":1}', "to.users"),
        (b'{"to":{"users":["a" "b"]},"content":1}', "to.users"),
        (b'{"to":{"users":["a"', "to.users"),
        (asking(to={"everyone": False}), "to.everyone"),
        (asking(to={"everyone": 1}), "to.everyone"),
        (asking(to={"categories": {}}), "to.categories"),
        (asking(to={"categories": []}), "to.categories"),
        (asking(to={"categories": None}), "to.categories"),
        (asking(to={"categories": {"king": ["1"]}}), "to.categories"),
        (asking(to={"categories": {"vip": []}}), "to.categories.vip"),
        (asking(to={"categories": {"vip": ["3"], "level": []}}), "to.categories.level"),
        (asking(to={"categories": {"vip": [True]}}), "to.categories.vip"),
        (asking(to={"categories": {"vip": [""]}}), "to.categories.vip"),
        (asking(to={"categories": {"vip": [str(n) for n in range(101)]}}), "to.categories.vip"),
        (b'{"to":{"categories":{"vip":["1"],"vip":["2"]}},"content":1}', "to.categories"),
        (b'{"to":{"categories":{"vip":' + b"[" * 600_000 + b"}},", "to.categories"),
        (b'{"to":{"categories":{"vip":"' + b"x" * 600_000 + b'"}},"content":1}', "to.categories"),
        (b'{"to":{"users":["a"]},"content":}', "content"),
        (b'{"to":{"users":["a"]},"content":NaN}', "content"),
        (b'{"to":{"users":["a"]},"content":[1e400]}', "content"),
        (b'{"to":{"users":["a"]},"content":{"a":1,"a":2}}', "content"),
        (b'{"to":{"users":["a"]},"content":"\\udfff"}', "content"),
        (b'{"to":{"users":["a"]},"content":' + b"[" * 100_000, "content"),
        (b'{"to":{"users":["a"]},"content":' + b"1" * 5000 + b"}", "content"),
        (b'{"to":{"users":["a"]},"content":1,"ttl":NaN}', "ttl"),
        (b'{"' + b"x" * 5000 + b'":1}', "x" * 64),
    ],
)
def test_a_wrong_field_is_named(body: bytes | dict[str, Any], field: str) -> None:
    error = refused(body)
    assert error.field == field
    assert error.reason
    assert len(str(error)) < 250


def test_a_list_of_users_is_not_read_beyond_what_is_wrong() -> None:
    error = refused(b'{"to":{"users":["a","b","c","d",' + b'"x",' * 100_000)
    assert error.field == "to.users"
    assert "more than 3" in error.reason


def test_a_small_value_is_checked_as_strictly() -> None:
    assert finished(checked_json(b' {"vip": ["3"]} '))[0] == {"vip": ["3"]}
    assert finished(content_text(b" [1, 1.10] "))[0] == "[1, 1.10]"
    for wrong in (b"", b"[NaN]", b'{"a":1,"a":1}', b"\xff", b"1 1", b"\xef\xbb\xbf1"):
        with pytest.raises(InvalidFieldError):
            finished(checked_json(wrong))
