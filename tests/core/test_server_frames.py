"""The frames of the server: exact bytes that a browser parses."""

from __future__ import annotations

import json

import pytest

from pushserver.core.frames import text_frame
from pushserver.core.server_frames import PONG, error_frame, live_frame, welcome_frame


def content(frame: bytes) -> dict[str, object]:
    """The JSON of a text frame whose header is right."""
    payload = frame[frame.index(b"{") :]
    assert frame == text_frame(payload)
    fields: dict[str, object] = json.loads(payload)
    return fields


def welcome(**changed: object) -> dict[str, object]:
    given: dict[str, object] = {
        "connection": "c-1",
        "pod": "pod-1",
        "user": "alice",
        "categories": {"vip": ("3", "4")},
        "expires": 1_700_000_000.9,
        "version": "1.2.3",
    }
    return content(welcome_frame(**{**given, **changed}))  # type: ignore[arg-type]


def test_welcome_says_who_and_where_the_client_is_and_until_which_second() -> None:
    assert welcome() == {
        "type": "welcome",
        "connection": "c-1",
        "pod": "pod-1",
        "user": "alice",
        "categories": {"vip": ["3", "4"]},
        "expires": 1_700_000_000,
        "version": "1.2.3",
    }


@pytest.mark.parametrize("user", ['"}', "\\", "</script>", "\u2028", "姓名", "🙂"])
def test_welcome_repeats_any_username_as_it_is(user: str) -> None:
    assert welcome(user=user)["user"] == user


def test_live_says_what_was_sent_what_is_missing_and_how_to_come_back() -> None:
    assert content(live_frame(delivered=12, expired=1, evicted=2, parked=3, gap=True)) == {
        "type": "live",
        "delivered": 12,
        "missed": {"expired": 1, "evicted": 2, "parked": 3},
        "gap": True,
        "retry": {"min_ms": 500, "max_ms": 20_000},
    }


def test_an_error_has_a_code_and_a_text() -> None:
    assert content(error_frame("bad_frame", 'not "JSON"')) == {
        "type": "error",
        "code": "bad_frame",
        "message": 'not "JSON"',
    }


def test_pong_is_a_frame_like_the_others() -> None:
    assert content(PONG) == {"type": "pong"}
