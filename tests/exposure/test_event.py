from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushserver.exposure.event import Event, build_events, connection_part, event_id
from tests.exposure.examples import an_event, an_exposure

HOSTILE = 'x"},{"\\ \u2028 </script> \U0001f600 ,"confirmed_at":1,"confirmed_at":'


def exposures_of(event: Event) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(event.data)["exposures"]
    return found


def test_an_event_is_the_json_of_the_contract() -> None:
    (event,) = build_events([an_exposure()], "pod-1")
    assert event.data.decode() == (
        '{"schema":1,"message_id":"m-1","pod":"pod-1","source":"live","queued_at":1700000000000,'
        '"exposures":[{"username":"alice","connection":"c-1","client_ip":"203.0.113.9",'
        '"categories":{"vip":["3"],"hall":["a","b"]},"pushed_at":1700000000010,'
        '"confirmed_at":1700000000020,"proof":"pong"}]}'
    )


def test_its_attributes_are_texts() -> None:
    (event,) = build_events([an_exposure("alice"), an_exposure("bob")], "pod-1")
    assert event.attributes == {"schema": "1", "message_id": "m-1", "pod": "pod-1", "count": "2"}


def test_no_exposures_make_no_event() -> None:
    assert build_events([], "pod-1") == []


@pytest.mark.parametrize("count, sizes", [(1000, [1000]), (1001, [1000, 1]), (2500, [1000, 1000, 500])])
def test_an_event_has_at_most_1000_exposures(count: int, sizes: list[int]) -> None:
    events = build_events([an_exposure(f"user-{n}") for n in range(count)], "pod-1")
    assert [event.count for event in events] == sizes
    names = [shown["username"] for event in events for shown in exposures_of(event)]
    assert names == [f"user-{n}" for n in range(count)]


def test_exposures_are_grouped_by_message_source_and_time_in_order_of_their_first() -> None:
    shown = [
        an_exposure("a", message_id="m-2"),
        an_exposure("b", message_id="m-1"),
        an_exposure("c", message_id="m-2"),
        an_exposure("d", message_id="m-2", source="offline"),
        an_exposure("e", message_id="m-2", queued_at=5),
    ]
    events = build_events(shown, "pod-1")
    heads = [
        (parsed["message_id"], parsed["source"], parsed["queued_at"], len(parsed["exposures"]))
        for parsed in (json.loads(event.data) for event in events)
    ]
    assert heads == [
        ("m-2", "live", 1_700_000_000_000, 2),
        ("m-1", "live", 1_700_000_000_000, 1),
        ("m-2", "offline", 1_700_000_000_000, 1),
        ("m-2", "live", 5, 1),
    ]


def test_what_many_confirmed_alike_is_what_each_would_have_made() -> None:
    """A broadcast's messages are the same objects for all: they are put together once."""
    first, second = (
        an_exposure(message_id=one, pushed_at=n).messages[0] for n, one in enumerate(["m-1", "m-2"])
    )
    shown = [
        replace(an_exposure(f"user-{n}", f"c-{n}", confirmed_at=n), messages=[first, second][n % 2 :])
        for n in range(2001)
    ]
    alone = [replace(one, messages=[message]) for one in shown for message in one.messages]
    together = build_events(shown, "pod-1")
    assert [event.count for event in together] == [1000, 1, 1000, 1, 1000]
    assert all_of(together) == all_of(build_events(alone, "pod-1"))


def all_of(events: list[Event]) -> set[tuple[object, ...]]:
    return {
        (event.message_id, *(shown[name] for name in ("username", "connection", "pushed_at", "confirmed_at")))
        for event in events
        for shown in exposures_of(event)
    }


def test_users_with_very_many_categories_do_not_make_an_event_too_large_for_pubsub() -> None:
    values = tuple(str(n) * 60 for n in range(100, 200))
    part = connection_part("alice", "c-1", "203.0.113.9", dict.fromkeys(("vip", "hall", "sa"), values))
    shown = [replace(an_exposure(pushed_at=n), connection=part) for n in range(300)]
    events = build_events(shown, "pod-1")
    assert max(len(event.data) for event in events) < 1_100_000
    assert sum(event.count for event in events) == 300
    assert [shown["pushed_at"] for event in events for shown in exposures_of(event)] == list(range(300))


def test_one_exposure_beyond_the_size_still_goes_alone() -> None:
    part = connection_part("alice", "c-1", "", {"vip": ("x" * 2_000_000,)})
    shown = [an_exposure("bob"), replace(an_exposure("alice"), connection=part), an_exposure("bob")]
    events = build_events(shown, "pod-1")
    assert [event.count for event in events] == [1, 1, 1]


def test_no_name_breaks_the_json() -> None:
    (event,) = build_events([an_exposure(HOSTILE, HOSTILE)], "pod-1")
    (shown,) = exposures_of(event)
    assert (shown["username"], shown["connection"], shown["proof"]) == (HOSTILE, HOSTILE, "pong")


def test_an_event_is_known_again_from_its_data() -> None:
    """As the mover does with the spool, which keeps the data only."""
    (event,) = build_events([an_exposure(HOSTILE), an_exposure("bob")], "pod-1")
    assert Event.from_data(event.data) == event


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b'{"schema":2,"message_id":"m-1","pod":"pod-1",',
        b'{"schema":1,"message_id":"a b","pod":"p",',
    ],
)
def test_data_of_another_schema_is_passed_on_without_attributes(data: bytes) -> None:
    event = Event.from_data(data)
    assert (event.data, event.count, event.attributes) == (data, 0, {})


def test_the_id_of_an_exposure_never_changes() -> None:
    """Rows are stored under it: a change would store every redelivery again."""
    assert event_id("m-1", "alice", "c-1") == "39e3e420-c8d3-5ee0-b3b2-a5f54abc287b"


@given(st.tuples(st.text(), st.text(), st.text()), st.tuples(st.text(), st.text(), st.text()))
def test_no_two_exposures_share_an_id(one: tuple[str, str, str], other: tuple[str, str, str]) -> None:
    assert (event_id(*one) == event_id(*other)) == (one == other)


def test_parts_that_run_together_alike_have_different_ids() -> None:
    triples = [("a", "b", "c"), ("ab", "", "c"), ("", "ab", "c"), ("a", "bc", ""), ("a", "1:b,", "c")]
    assert len({event_id(*parts) for parts in triples}) == len(triples)


def test_the_event_of_one_exposure_is_small() -> None:
    """The size that storage and network are planned with."""
    assert len(an_event().data) < 350
