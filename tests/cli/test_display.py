"""The lines of `pushserver connect`."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from pushserver.cli.display import Display
from pushserver.client import Message


def shown(*what: Message | dict[str, Any]) -> list[str]:
    lines: list[str] = []
    display = Display(lines.append)
    for one in what:
        if isinstance(one, Message):
            display.message(one)
        else:
            fields = dict(one)
            display.event(fields.pop("type"), fields)
    return lines


def message(message_id: str, content: Any = 1, time: int = 1_700_000_000_123) -> Message:
    return Message(message_id, time, content)


def test_a_message_is_its_id_its_time_and_its_content() -> None:
    assert shown(message("m-1", {"text": "Grüße 😀", "n": [1, None, 1.5]})) == [
        'message  m-1 2023-11-14T22:13:20.123+00:00 {"text":"Grüße 😀","n":[1,null,1.5]}'
    ]


def test_any_other_frame_is_its_type_and_its_fields() -> None:
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
        {"type": "unknown", "frame": HOSTILE},
        {"type": "closed", "code": 1000, "reason": HOSTILE},
    ],
)
def test_nothing_in_a_frame_reaches_the_terminal_as_a_control_character(
    frame: Message | dict[str, Any],
) -> None:
    (line,) = shown(frame)
    assert line.isprintable()


@pytest.mark.parametrize("time", [10**30, -(10**30), 10**400])
def test_a_time_that_no_calendar_has_is_shown_as_it_came(time: int) -> None:
    assert shown(message("m", time=time)) == [f"message  m {time} 1"]


def test_the_clients_own_events_are_told_in_a_few_words() -> None:
    assert shown(
        {"type": "closed", "code": 1012, "reason": "draining \x1b[2J"},
        {"type": "closed", "code": 1006, "reason": ""},
        {"type": "refused", "reason": "HTTP 403 no: not you"},
        {"type": "failed", "reason": "connection refused"},
        {"type": "waiting", "seconds": 1.25},
    ) == [
        r"closed   1012 draining \x1b[2J",
        "closed   1006",
        "refused  HTTP 403 no: not you",
        "failed   connection refused",
        "waiting  1.2 s",
    ]


def test_content_nested_as_deep_as_it_can_be_parsed_is_shown() -> None:
    deep: Any = []
    for _ in range(sys.getrecursionlimit() // 2):
        deep = [deep]
    assert len(shown(message("m", deep))) == 1
