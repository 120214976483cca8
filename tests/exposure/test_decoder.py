from __future__ import annotations

import json
import string
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushserver.core.errors import InvalidEventError
from pushserver.exposure import decoder as module
from pushserver.exposure.decoder import MAX_EVENT_BYTES, Decoder
from pushserver.exposure.event import build_events, event_id
from tests.exposure.examples import an_event, an_exposure


def changed(*path: Any, value: Any = ..., drop: bool = False) -> bytes:
    """An event's JSON with one field changed or left out."""
    event: Any = json.loads(an_event().data)
    place = event
    for step in path[:-1]:
        place = place[step]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(event).encode()


def refused(data: bytes) -> tuple[str, str]:
    """Why."""
    with pytest.raises(InvalidEventError) as failure:
        Decoder().decode(data)
    return failure.value.reason, failure.value.detail


def test_each_exposure_is_a_record() -> None:
    (event,) = build_events([an_exposure("alice", proof="ack"), an_exposure("bob", "c-2")], "pod-1")
    one, two = Decoder().decode(event.data)
    assert one[:-1] == (
        event_id("m-1", "alice", "c-1"),
        *("m-1", "alice", "c-1", "203.0.113.9", "pod-1", "live", "ack"),
        *(1_700_000_000_000, 1_700_000_000_010, 1_700_000_000_020),
    )
    assert (two.username, two.connection, two.proof) == ("bob", "c-2", "pong")
    assert one.categories is two.categories
    assert one.categories.text == '{"vip":["3"],"hall":["a","b"]}'
    assert one.categories.pairs == (("vip", "3"), ("hall", "a"), ("hall", "b"))


def test_the_number_of_a_category_set_never_changes() -> None:
    """Stored rows are joined by it."""
    (record,) = Decoder().decode(an_event().data)
    assert record.categories.number == 8525755616761659428


def test_equal_categories_have_one_number_whatever_their_order() -> None:
    numbers = {
        Decoder().decode(changed("exposures", 0, "categories", value=value))[0].categories.number
        for value in ({"vip": ["1", "2"], "hall": ["x"]}, {"hall": ["x"], "vip": ["2", "1", "2"]})
    }
    assert len(numbers) == 1


def test_category_sets_are_forgotten_rather_than_piled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SETS", 10)
    decoder = Decoder()
    for number in range(100):
        decoder.decode(changed("exposures", 0, "categories", value={"vip": [str(number)]}))
        assert len(decoder._sets) <= 10


def test_fields_of_a_later_version_are_passed_over() -> None:
    assert len(Decoder().decode(changed("exposures", 0, "later", value=[1]))) == 1
    assert len(Decoder().decode(changed("later", value={"a": 1}))) == 1


def test_a_client_without_an_address_is_taken() -> None:
    assert Decoder().decode(changed("exposures", 0, "client_ip", value=""))[0].client_ip == ""


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "empty"),
        (b"nonsense", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b'"\xff"', "not_json"),
        (b"[]", "not_json"),
        (b"3", "not_json"),
        (b"[" * 100_000, "not_json"),
        (b" " * (MAX_EVENT_BYTES + 1), "too_large"),
        (b"{}", "schema"),
        (changed("schema", value=2), "schema"),
        (changed("schema", value=True), "schema"),
        (changed("schema", value="1"), "schema"),
        (changed("exposures", value=[]), "field"),
        (changed("exposures", value={}), "field"),
        (changed("exposures", value=[{}] * 1001), "field"),
        (changed("exposures", value=[1]), "field"),
        (changed("exposures", 0, "username", value="a\x00b"), "field"),
        (changed("exposures", 0, "username", value="\ud800"), "field"),
        (changed("exposures", 0, "username", value="x" * 129), "field"),
        (changed("exposures", 0, "connection", value="x" * 65), "field"),
        (changed("exposures", 0, "connection", value=""), "field"),
        (changed("exposures", 0, "client_ip", value="a b"), "field"),
        (changed("exposures", 0, "pushed_at", value=-1), "field"),
        (changed("exposures", 0, "pushed_at", value=1.5), "field"),
        (changed("exposures", 0, "pushed_at", value=True), "field"),
        (changed("exposures", 0, "pushed_at", value=2**63), "field"),
        (changed("exposures", 0, "pushed_at", value=float("nan")), "field"),
        (changed("exposures", 0, "proof", value=["pong"]), "field"),
        (changed("exposures", 0, "categories", value={"rank": "1"}), "field"),
        (changed("exposures", 0, "categories", value=None), "field"),
        (changed("source", value="dream"), "field"),
        (changed("message_id", value="a b"), "field"),
        (changed("pod", value="POD"), "field"),
        (changed("queued_at", value="1"), "field"),
    ],
)
def test_what_is_no_event_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    assert refused(data)[0] == reason


@pytest.mark.parametrize("name", ["schema", "message_id", "pod", "source", "queued_at", "exposures"])
def test_a_missing_field_is_named(name: str) -> None:
    reason, detail = refused(changed(name, drop=True))
    assert name in f"{reason} {detail}"


@pytest.mark.parametrize(
    "name", ["username", "connection", "client_ip", "categories", "pushed_at", "confirmed_at", "proof"]
)
def test_a_missing_field_of_an_exposure_is_named_with_its_place(name: str) -> None:
    _, detail = refused(changed("exposures", 0, name, drop=True))
    assert detail.startswith(f"exposures[0].{name}")


@given(st.recursive(st.none() | st.integers() | st.text(string.printable), st.lists))
def test_no_value_in_any_place_makes_anything_but_records_or_a_refusal(value: Any) -> None:
    for path in (("message_id",), ("exposures",), ("exposures", 0), ("exposures", 0, "categories")):
        with suppress(InvalidEventError):
            assert Decoder().decode(changed(*path, value=value))
