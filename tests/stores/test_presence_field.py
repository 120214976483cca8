"""What a presence field says, whoever wrote it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushserver.stores.keys import presence_field
from pushserver.stores.presence_field import presence_of, read_presence


def test_a_field_says_boot_and_since() -> None:
    assert read_presence(b'{"boot":7,"since":1700000000000}') == {"boot": 7, "since": 1_700_000_000_000}


@pytest.mark.parametrize(
    "value, record",
    [
        (b"", {}),
        (b"\xff", {}),
        (b"{", {}),
        (b"7", {}),
        (b"null", {}),
        (b"[7]", {}),
        (b"{}", {}),
        (b'{"boot":"7","since":1}', {"since": 1}),
        (b'{"boot":true,"since":null}', {}),
        (b'{"boot":7.0}', {}),
        (b'{"boot":NaN,"since":1e999}', {}),
        (b'{"boot":7,"more":1}', {"boot": 7}),
    ],
)
def test_what_cannot_be_read_is_left_out(value: bytes, record: dict[str, int]) -> None:
    assert read_presence(value) == record


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything(value: bytes) -> None:
    assert set(read_presence(value)) <= {"boot", "since"}
    assert presence_of([value, value]) in ({}, {value.rpartition(b":")[2].decode("latin-1"): {}})


def test_presence_is_by_pod_and_fields_that_name_none_are_left_out() -> None:
    fields = {
        presence_field("a:b", "pod-1").encode(): b'{"boot":1,"since":2}',
        presence_field("a:b", "pod-2").encode(): b"garbage",
        b"a:b:No Pod": b'{"boot":3,"since":4}',
        b"\xff:pod-3": b'{"boot":5,"since":6}',
        b"no colon": b"{}",
    }
    flat = [item for field in fields.items() for item in field]
    assert presence_of(flat) == {
        "pod-1": {"boot": 1, "since": 2},
        "pod-2": {},
        "pod-3": {"boot": 5, "since": 6},
    }
    assert presence_of([]) == {}
