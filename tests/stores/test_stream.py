"""Streams: places in them as numbers, and a reader that can be stopped at any moment."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushserver.stores.client import connect
from pushserver.stores.stream import StreamReader, position_of, stream_id
from tests.engines.redis_server import RedisServer

PARTS = st.integers(0, 2**64 - 1)


@given(ms=PARTS, seq=PARTS, other_ms=PARTS, other_seq=PARTS)
def test_places_are_in_the_order_of_the_stream(ms: int, seq: int, other_ms: int, other_seq: int) -> None:
    one, other = position_of(b"%d-%d" % (ms, seq)), position_of(b"%d-%d" % (other_ms, other_seq))
    assert (one < other) == ((ms, seq) < (other_ms, other_seq))
    assert stream_id(one) == f"{ms}-{seq}"


@pytest.mark.parametrize("foreign", [b"", b"7", b"x-1", b"1-x", b"-1", b"1-"])
def test_what_is_no_id_has_no_place(foreign: bytes) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        position_of(foreign)


@pytest.mark.gen_test(timeout=60)
async def test_who_reads_on_and_on_ends_when_cancelled_at_whatever_moment(redis_server: RedisServer) -> None:
    """Else a pod would not exit: a cancel that meets the end of a write is lost below."""
    for turns in range(16):
        reader = StreamReader(connect(redis_server.url, timeout_ms=1000, max_connections=1), timeout_s=0.1)
        await reader.read("stream", 0, 1)
        reading = asyncio.ensure_future(_read_on(reader))
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading], timeout=5)
        assert reading.cancelled(), turns
        await reader.close()


async def _read_on(reader: StreamReader) -> None:
    while True:
        await reader.read("stream", 0, 1)
