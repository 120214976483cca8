from __future__ import annotations

import json
from random import Random

import pytest

from pushserver.core.deflate import inflate
from pushserver.core.errors import InvalidContentError
from pushserver.core.frames import payload_of, text_frame
from pushserver.core.message import Message, frame_of
from tests.texts import message_text

TEXT = message_text("m1", 1_700_000_000_000, {"hello": ["wörld", 1.5, None]}).encode()
MAX = 10_000


def changed(**fields: object) -> bytes:
    return json.dumps({**json.loads(TEXT), **fields}).encode()


def without(field: str) -> bytes:
    return json.dumps({name: value for name, value in json.loads(TEXT).items() if name != field}).encode()


def test_the_text_of_a_message_is_the_frame_of_the_contract() -> None:
    assert message_text("m1", 17, {"a": 1}) == '{"type":"message","id":"m1","time":17,"content":{"a":1}}'


@pytest.mark.parametrize("content", [None, False, 0, "", [], {}, "<>&\u2028\0"])
def test_content_may_be_any_json(content: object) -> None:
    text = message_text("m1", 17, content)
    assert json.loads(text)["content"] == content
    assert frame_of("m1", text.encode(), MAX).queued_at == 17


@pytest.mark.parametrize("content", [float("nan"), {"a": b"x"}, "\ud800"])
def test_content_that_is_no_json_has_no_text(content: object) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        message_text("m1", 17, content)


def test_a_message_holds_the_stored_text_as_it_is() -> None:
    message = frame_of("m1", TEXT, MAX)
    assert (message.id, message.frame, message.queued_at) == ("m1", text_frame(TEXT), 1_700_000_000_000)


def test_another_programs_spacing_order_and_further_fields_are_kept() -> None:
    text = b' { "content" : 9007199254740993, "extra" : 1,\n"time":5, "id":"m1", "type":"message" } '
    assert frame_of("m1", text, MAX).frame == text_frame(text)


def test_a_content_of_the_largest_size_passes_and_one_byte_more_does_not() -> None:
    assert frame_of("m1", TEXT, len(TEXT)).frame == text_frame(TEXT)
    with pytest.raises(InvalidContentError, match=f"is larger than {len(TEXT) - 1} bytes"):
        frame_of("m1", TEXT, len(TEXT) - 1)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"hello",
        TEXT + b"x",
        b"\xef\xbb\xbf" + TEXT,
        TEXT[:-1],
        changed(content=float("nan")),
        b"[" * 9999,
    ],
)
def test_what_is_no_json_is_no_content(text: bytes) -> None:
    with pytest.raises(InvalidContentError, match=r"^content of m1: is not JSON"):
        frame_of("m1", text, MAX)


@pytest.mark.parametrize(
    "text",
    [
        b"null",
        b"[]",
        b'"message"',
        changed(id="m2"),
        changed(id=1),
        changed(type="live"),
        without("id"),
        without("type"),
    ],
)
def test_a_content_must_be_the_message_of_its_own_id(text: bytes) -> None:
    with pytest.raises(InvalidContentError, match="is not the message frame of that id"):
        frame_of("m1", text, MAX)


@pytest.mark.parametrize(
    "text", [without("time"), changed(time="17"), changed(time=1.5), changed(time=True), changed(time=None)]
)
def test_a_content_must_have_an_integer_time(text: bytes) -> None:
    with pytest.raises(InvalidContentError, match="has no integer time"):
        frame_of("m1", text, MAX)


def test_a_message_without_content_is_refused_but_null_is_a_content() -> None:
    assert frame_of("m1", changed(content=None), MAX).id == "m1"
    with pytest.raises(InvalidContentError, match="has no content"):
        frame_of("m1", without("content"), MAX)


def test_a_refusal_does_not_repeat_the_content() -> None:
    with pytest.raises(InvalidContentError) as caught:
        frame_of("m1", b"secret", MAX)
    assert "secret" not in str(caught.value)
    assert caught.value.message_id == "m1"


# -- compressed


LONG = message_text("m1", 17, "tell me again " * 50).encode()


def noted(text: bytes = LONG, message_id: str = "m1") -> tuple[Message, list[Message]]:
    """A message that may be compressed, and whom it told so."""
    told: list[Message] = []
    return frame_of(message_id, text, MAX, told.append), told


def test_a_compressed_frame_is_made_once_and_told_of() -> None:
    message, told = noted()
    assert told == []
    frame = message.deflated(MAX)
    assert len(told) == 1
    assert told[0] is message
    assert all(message.deflated(MAX) is frame for _ in range(3))
    assert len(told) == 1
    assert inflate(bytes(payload_of(frame)), MAX) == LONG


def test_its_size_is_that_of_both_frames_once_both_are_there() -> None:
    message, _told = noted()
    assert message.size == len(message.frame)
    frame = message.deflated(MAX)
    assert message.size == len(message.frame) + len(frame) < 1.3 * len(message.frame)


def test_what_would_not_get_smaller_goes_out_as_it_is_and_is_tried_once() -> None:
    told: list[Message] = []
    message = Message("m1", text_frame(Random(1).randbytes(500)), 17, told.append)
    assert message.deflated(MAX) is message.deflated(MAX) is message.frame
    assert len(told) == 1
    assert message.size == len(message.frame)


def test_what_is_larger_than_a_client_takes_goes_out_as_it_is() -> None:
    message, told = noted()
    size = len(message.frame)
    assert message.deflated(size - 1) is message.frame
    assert told == []
    assert message.deflated(size) is not message.frame


def test_what_is_not_to_be_compressed_never_is() -> None:
    message = frame_of("m1", LONG, MAX)
    assert message.deflated(MAX) is message.frame
    assert message == noted()[0]
