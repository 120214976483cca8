"""The lines of the terminal client."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pushserver.web import client_display
from pushserver.web.client_display import Display


def shown(*frames: dict[str, Any], count: int | None = None) -> list[str]:
    lines: list[str] = []
    display = Display(lines.append, count)
    for frame in frames:
        display.show(frame)
    return lines


def message(message_id: str, content: Any = 1) -> dict[str, Any]:
    return {"type": "message", "id": message_id, "time": 1_700_000_000_123, "content": content}


def test_a_message_is_its_id_its_time_and_its_content():
    assert shown(message("m-1", {"text": "Grüße 😀", "n": [1, None, 1.5]})) == [
        'message  m-1 2023-11-14T22:13:20.123+00:00 {"text":"Grüße 😀","n":[1,null,1.5]}'
    ]


def test_any_other_frame_is_its_type_and_its_fields():
    assert shown(
        {"type": "welcome", "connection": "c1", "user": "ann", "categories": {"vip": ["3"]}, "expires": 17},
        {"type": "live", "delivered": 2, "missed": {"expired": 1}, "gap": False},
        {"type": "error", "code": "bad_frame", "message": "no such type"},
        {"type": "pong"},
    ) == [
        'welcome  connection=c1 user=ann categories={"vip":["3"]} expires=17',
        'live     delivered=2 missed={"expired":1} gap=false',
        'error    code=bad_frame message="no such type"',
        "pong",
    ]


HOSTILE = "\r\n\x1b[2J\x00\x7f\x9b\u2028\u202e\udcff"


@pytest.mark.parametrize(
    "frame",
    [
        message("m", HOSTILE),
        message(HOSTILE),
        {"type": HOSTILE},
        {"type": "error", "code": HOSTILE, HOSTILE: HOSTILE},
        {"type": "message", "id": ["x"], "time": HOSTILE, "content": {HOSTILE: HOSTILE}},
    ],
)
def test_nothing_in_a_frame_reaches_the_terminal_as_a_control_character(frame: dict[str, Any]):
    (line,) = shown(frame)
    assert line.isprintable()


@pytest.mark.parametrize("time", [None, "soon", 10**30, -(10**30), 1e400, float("nan"), [1], {}])
def test_a_time_that_is_none_is_shown_as_it_came(time: Any):
    (line,) = shown({**message("m"), "time": time})
    assert line.startswith("message  m ")
    assert "T" not in line


def test_frames_without_what_they_should_have_are_shown_all_the_same():
    assert shown({}, {"type": "message"}, {"type": None, "id": 1}) == [
        "null",
        "message  null null null",
        "null     id=1",
    ]


def test_what_is_no_frame_is_escaped_too():
    lines: list[str] = []
    Display(lines.append, None).say("closed", "1012 \x1b[2J")
    assert lines == [r"closed   1012 \x1b[2J"]


def test_a_message_is_shown_once():
    assert len(shown(message("a"), message("b"), message("a", "other"))) == 2


def test_only_so_many_ids_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_display, "MAX_SEEN", 2)
    lines = shown(*(message(name) for name in "abcab"))
    assert [line.split()[1] for line in lines] == ["a", "b", "c", "a", "b"]
    lines = shown(*(message(name) for name in "abba"))
    assert [line.split()[1] for line in lines] == ["a", "b"]


def test_it_has_enough_after_so_many_messages_repeats_not_counted():
    display = Display(lambda line: None, 2)
    display.show({"type": "welcome"})
    display.show(message("a"))
    display.show(message("a"))
    assert not display.has_enough
    display.show(message("b"))
    assert display.has_enough


def test_without_a_count_it_never_has_enough():
    display = Display(lambda line: None, None)
    for number in range(100):
        display.show(message(f"m{number}"))
    assert not display.has_enough


def test_what_could_not_be_written_counts_as_not_shown():
    def fail(line: str) -> None:
        raise BrokenPipeError

    display = Display(fail, 1)
    with pytest.raises(BrokenPipeError):
        display.show(message("a"))
    assert not display.has_enough


def test_content_nested_as_deep_as_it_can_be_parsed_is_shown():
    deep: Any = []
    for _ in range(sys.getrecursionlimit() // 2):
        deep = [deep]
    assert len(shown(message("m", deep))) == 1
