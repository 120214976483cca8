"""The lines of a batch, its windows and its results; no HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from pushserver.core.errors import IdReusedError, StoreUnavailableError
from pushserver.core.metrics import Metrics
from pushserver.core.publication import Published
from pushserver.web.admin.batch import WINDOW_BYTES, WINDOW_LINES, Batch, Line
from pushserver.web.admin.intake import Intake
from tests.callbacks import short_callbacks
from tests.cpu_time import measured_again
from tests.web.admin.batch_lines import line
from tests.web.admin.desk import RULES, FakePublisher


def batch(publisher: FakePublisher | None = None, **bounds: int) -> Batch:
    return Batch(Intake(publisher or FakePublisher(), RULES, Metrics()), **{"max_line_bytes": 1000, **bounds})


def lines(windows: Any) -> list[Line]:
    return [one for window in windows for one in window]


async def results(one: Batch, *windows: Sequence[Line]) -> list[Any]:
    return [
        json.loads(text) for window in windows for text in (await one.answer(window)).decode().splitlines()
    ]


def test_lines_are_found_wherever_the_pieces_end() -> None:
    text = b"one\n\n \r\ntwo\r\n\n\nthree"
    for size in range(1, len(text) + 1):
        cut = batch()
        found = [one for at in range(0, len(text), size) for one in lines(cut.feed(text[at : at + size]))]
        found += lines(cut.end())
        assert [(one.number, one.text.strip()) for one in found] == [(1, b"one"), (4, b"two"), (7, b"three")]


def test_nothing_is_held_of_a_line_that_is_too_long_and_the_next_is_read() -> None:
    cut = batch(max_line_bytes=10)
    found = lines(cut.feed(b"0123456789\n01234567890"))
    assert [(one.number, one.refusal and one.refusal.code) for one in found] == [(1, None), (2, "too_large")]
    assert lines(cut.feed(b"x" * 100_000)) == []
    assert len(cut._begun) == 0
    assert [(one.number, one.text) for one in lines(cut.feed(b"x\nnext\n"))] == [(3, b"next")]


def test_a_line_too_many_is_refused_and_ends_it() -> None:
    cut = batch(max_lines=2)
    found = lines(cut.feed(b"1\n\n2\n3\n4\n"))
    assert [(one.number, one.refusal and one.refusal.code) for one in found] == [
        (1, None),
        (3, None),
        (4, "too_many_lines"),
    ]
    assert cut.ended
    assert lines(cut.feed(b"5\n")) == lines(cut.end()) == []


def test_a_window_has_a_bound_of_lines_and_one_of_bytes() -> None:
    sizes = [len(window) for window in batch().feed(b"x\n" * (WINDOW_LINES * 2 + 1))]
    assert sizes == [WINDOW_LINES, WINDOW_LINES, 1]
    long = b"x" * (WINDOW_BYTES // 2) + b"\n"
    assert [len(window) for window in batch(max_line_bytes=WINDOW_BYTES).feed(long * 5)] == [2, 2, 1]


@pytest.mark.gen_test
async def test_each_line_has_its_result_in_order_and_one_refusal_harms_no_other() -> None:
    publisher = FakePublisher()
    publisher.answers = {
        "again": Published("again", duplicate=True, users=1, online=1),
        "reused": IdReusedError("reused"),
        "away": StoreUnavailableError("timeout", "secret"),
        "broken": ZeroDivisionError("secret"),
    }
    cut = batch(publisher)
    text = b"".join(
        [line("first"), b"{}\n", line("again"), line("reused"), line("away"), line("broken"), line("last")]
    )
    with capture_logs() as logged:
        told = await results(cut, *cut.feed(text))
    assert [one["line"] for one in told] == [1, 2, 3, 4, 5, 6, 7]
    assert [one["status"] for one in told] == [202, 400, 200, 409, 503, 500, 202]
    assert told[0] == {"line": 1, "status": 202, "id": "first", "users": 1, "online": 0}
    assert told[1]["error"]["field"] == "to"
    assert told[2]["duplicate"] is True
    assert told[4]["error"] == {
        "code": "unavailable",
        "message": "storage is unavailable (timeout)",
        "kind": "timeout",
    }
    assert "secret" not in json.dumps(told)
    assert [entry["event"] for entry in logged] == ["batch.failed"]
    assert [one.id for one in publisher.asked] == ["first", "again", "reused", "away", "broken", "last"]


@measured_again
@pytest.mark.gen_test
async def test_lines_that_take_long_to_read_hold_the_loop_for_no_longer_than_it_may_be() -> None:
    cut = batch(max_line_bytes=10_000)
    text = b"".join(line(f"m-{number}", [0] * 3000) for number in range(WINDOW_LINES))
    with short_callbacks():
        # What runs until the loop's next turn began before the watch.
        await asyncio.sleep(0)
        told = await results(cut, *cut.feed(text))
    assert {one["status"] for one in told} == {202}
