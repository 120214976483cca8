"""The Python client against a real server, shown as `pushserver connect` does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, NamedTuple

import pytest
from tornado.ioloop import IOLoop

from pushserver import client as module
from pushserver.client import Client, Message
from pushserver.core.errors import ClosedError, RefusedError
from pushserver.web import client_session
from pushserver.web.backoff import Backoff
from tests.stage import (
    LIVE,
    WELCOME,
    EnoughError,
    Play,
    Refusal,
    Seat,
    Stage,
    closing,
    losing,
    message,
    on_stage,
    sending,
)


@pytest.fixture
def stage(io_loop: IOLoop) -> Iterator[Stage]:
    with on_stage(io_loop) as stage:
        yield stage


@pytest.mark.gen_test
async def test_every_frame_is_shown_on_a_line_until_the_server_closes(stage: Stage) -> None:
    client = stage.client(closing(1000, "bye", WELCOME, message("a"), LIVE))
    assert await client.run() == 0
    assert [line.split()[0] for line in stage.lines] == ["welcome", "message", "live", "closed"]
    assert stage.lines[-1] == "closed   1000 bye"


@pytest.mark.gen_test
async def test_the_token_travels_in_the_authorization_header_and_nowhere_else(stage: Stage) -> None:
    await stage.client(closing(1000)).run()
    (headers,) = stage.visits
    assert headers["Authorization"] == "Bearer t0k3n"
    assert "Sec-WebSocket-Protocol" not in headers


@pytest.mark.gen_test
async def test_what_is_no_json_object_is_shown_escaped(stage: Stage) -> None:
    await stage.client(closing(1000, None, "\x1b[2J{", b"\xff\x1b", "[1]", "NaN")).run()
    assert stage.shown("unknown") == [
        r"frame=\x1b[2J{",
        r"frame=b'\xff\x1b'",
        "frame=[1]",
        "frame=NaN",
    ]
    assert all(line.isprintable() for line in stage.lines)


@pytest.mark.parametrize("code", [1001, 1012, 4408, 4429])
@pytest.mark.gen_test
async def test_it_comes_back_after_a_close_that_passes(stage: Stage, code: int) -> None:
    client = stage.client(closing(code, "why"), closing(1000))
    assert await client.run() == 0
    assert len(stage.visits) == 2
    assert stage.shown("closed") == [f"{code} why", "1000"]


@pytest.mark.gen_test
async def test_it_comes_back_after_a_connection_was_lost(stage: Stage) -> None:
    assert await stage.client(losing, closing(1000)).run() == 0
    assert stage.shown("closed") == ["1006", "1000"]


@pytest.mark.parametrize("code", [1002, 1008, 1009, 1011, 4400, 4401, 4403, 4409])
@pytest.mark.gen_test
async def test_it_does_not_come_back_after_any_other_close(stage: Stage, code: int) -> None:
    client = stage.client(closing(code, "why", WELCOME), closing(1000))
    assert await client.run() == 1
    assert len(stage.visits) == 1
    assert stage.waited == []


@pytest.mark.gen_test
async def test_an_expired_token_is_replaced_by_a_new_one(stage: Stage) -> None:
    client = stage.client(closing(4401, "expired", WELCOME), closing(1000), tokens=("old", "new"))
    assert await client.run() == 0
    assert [headers["Authorization"] for headers in stage.visits] == ["Bearer old", "Bearer new"]


@pytest.mark.gen_test
async def test_a_new_token_that_was_never_believed_is_not_replaced_by_another(stage: Stage) -> None:
    client = stage.client(closing(4401, "not authenticated"), tokens=("one", "two"))
    assert await client.run() == 1
    assert len(stage.visits) == 1


@pytest.mark.gen_test
async def test_tries_back_off_until_a_connection_was_live(stage: Stage) -> None:
    plays = [closing(1012), closing(1012, None, WELCOME), closing(1012)]
    await stage.client(*plays, closing(1012, None, WELCOME, LIVE), closing(1000)).run()
    expected = Backoff(0.5, 4, random := Random(1))
    drawn = [expected.next_s() for _ in range(3)]
    drawn.append(Backoff(0.1, 0.8, random).next_s())
    assert stage.waited == drawn
    assert stage.shown("waiting") == [f"{delay:.1f} s" for delay in drawn]


@pytest.mark.parametrize(
    "retry",
    [
        None,
        5,
        {},
        {"min_ms": "1", "max_ms": 2},
        {"min_ms": 0, "max_ms": 10},
        {"min_ms": 9, "max_ms": 1},
        {"min_ms": 1.5, "max_ms": None},
    ],
)
@pytest.mark.gen_test
async def test_bounds_that_are_none_leave_the_old_ones(stage: Stage, retry: Any) -> None:
    live = closing(1012, None, {**LIVE, "retry": retry})
    await stage.client(live, live, closing(1000)).run()
    expected = Backoff(0.5, 4, Random(1))
    first = expected.next_s()
    expected.reset()
    assert stage.waited == [first, expected.next_s()]


@pytest.mark.gen_test
async def test_bounds_beyond_an_hour_are_an_hour(stage: Stage) -> None:
    retry = {"min_ms": 10**12, "max_ms": 10**400}
    await stage.client(closing(1012, None, {**LIVE, "retry": retry}), closing(1000)).run()
    assert stage.waited == [3600]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
@pytest.mark.gen_test
async def test_a_refusal_is_shown_with_its_message_and_ends_it(stage: Stage, status: int) -> None:
    body = json.dumps({"error": {"code": "no", "message": "not \x1b[2J you"}})
    assert await stage.client((status, {}, body), tokens=("one", "two")).run() == 1
    assert stage.lines == [rf"refused  HTTP {status} no: not \x1b[2J you"]


@pytest.mark.parametrize("body", ["", "<html>", "[]", '{"error":1}', '{"error":{"code":"x"}}', "\ufeff"])
@pytest.mark.gen_test
async def test_a_refusal_without_our_json_is_shown_by_its_status(stage: Stage, body: str) -> None:
    assert await stage.client((403, {}, body)).run() == 1
    assert stage.lines == ["refused  HTTP 403"]


@pytest.mark.parametrize("status", [301, 302, 307])
@pytest.mark.gen_test
async def test_a_redirect_is_not_followed(stage: Stage, status: int) -> None:
    assert await stage.client((status, {"Location": "/ws"}, ""), closing(1000)).run() == 1
    assert len(stage.visits) == 1


@pytest.mark.gen_test
async def test_an_answer_that_is_no_websocket_ends_it(stage: Stage) -> None:
    assert await stage.client((200, {}, "hello")).run() == 1
    assert stage.lines == ["refused  Non-websocket response"]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.gen_test
async def test_a_refusal_that_passes_is_tried_again(stage: Stage, status: int) -> None:
    assert await stage.client((status, {}, ""), closing(1000)).run() == 0
    assert stage.waited == [Backoff(0.5, 4, Random(1)).next_s()]


@pytest.mark.gen_test
async def test_retry_after_is_waited_for_with_the_jitter_on_top(stage: Stage) -> None:
    assert await stage.client((503, {"Retry-After": "7"}, ""), closing(1000)).run() == 0
    assert stage.waited == [7 + Backoff(0.5, 4, Random(1)).next_s()]


@pytest.mark.parametrize("value", ["-1", "1e9", "99999", "Fri, 31 Dec 1999 23:59:59 GMT", "٣", "7, 8"])
@pytest.mark.gen_test
async def test_a_retry_after_that_is_no_number_of_seconds_is_passed_over(stage: Stage, value: str) -> None:
    assert (
        await stage.client((503, {"Retry-After": value.encode().decode("latin-1")}, ""), closing(1000)).run()
        == 0
    )
    assert stage.waited[0] < 1


@pytest.mark.gen_test
async def test_it_keeps_trying_while_nobody_listens(stage: Stage) -> None:
    stage.server.stop()
    stage.stop_after = 4
    with pytest.raises(EnoughError):
        await stage.client().run()
    assert [line.split()[0] for line in stage.lines] == ["failed", "waiting"] * 4
    assert "refused" in stage.lines[0]


@pytest.mark.gen_test
async def test_a_server_that_hangs_up_in_the_handshake_is_tried_again(stage: Stage) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    stage.server.stop()
    server = await asyncio.start_server(hang_up, "127.0.0.1", stage.port)
    stage.stop_after = 2
    with pytest.raises(EnoughError):
        await stage.client().run()
    server.close()
    await server.wait_closed()
    assert [line.split()[0] for line in stage.lines] == ["failed", "waiting"] * 2


@pytest.mark.gen_test
async def test_pings_are_answered_by_themselves(stage: Stage) -> None:
    async def play(seat: Seat) -> None:
        seat.send(WELCOME)
        seat.ping(b"1")
        seat.ping(b"2")
        await seat.until(lambda: b"2" in seat.heard)
        seat.close(1000)

    assert await stage.client(play).run() == 0
    assert stage.seats[0].heard[:2] == [b"1", b"2"]


@pytest.mark.gen_test
async def test_a_message_that_comes_again_on_the_next_connection_is_dropped(stage: Stage) -> None:
    plays = [closing(1012, None, message("a")), closing(1000, None, message("a"), message("b"))]
    await stage.client(*plays).run()
    assert [line.split()[0] for line in stage.shown("message")] == ["a", "b"]


@pytest.mark.gen_test
async def test_with_a_count_it_leaves_once_the_last_one_is_confirmed(stage: Stage) -> None:
    async def play(seat: Seat) -> None:
        seat.ping(b"early")
        seat.send(WELCOME, message("a"), message("b"), LIVE)
        seat.ping(b"late")

    assert await stage.client(play, count=2).run() == 0
    (seat,) = stage.seats
    assert await seat.left() == [b"early", b"late", 1000]
    assert len(stage.shown("message")) == 2


@pytest.mark.gen_test
async def test_one_message_too_many_is_neither_shown_nor_confirmed(stage: Stage) -> None:
    async def play(seat: Seat) -> None:
        seat.send(message("a"), message("b"))
        seat.ping(b"confirms b")

    assert await stage.client(play, count=1).run() == 0
    (seat,) = stage.seats
    assert await seat.left() == [1000]
    assert len(stage.shown("message")) == 1


@pytest.mark.gen_test
async def test_the_last_one_does_not_wait_for_a_ping_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_session, "CONFIRM_WAIT_S", 0.01)
    assert await stage.client(sending(message("a")), count=1).run() == 0
    assert await stage.seats[0].left() == [1000]


@pytest.mark.gen_test
async def test_a_count_goes_on_across_connections(stage: Stage) -> None:
    plays = [closing(1012, None, message("a")), closing(1012, None, message("b"), message("c"))]
    assert await stage.client(*plays, count=3).run() == 0
    assert len(stage.shown("message")) == 3


@pytest.mark.gen_test
async def test_with_ack_it_offers_the_subprotocol_and_says_what_it_received(stage: Stage) -> None:
    async def play(seat: Seat) -> None:
        assert seat.selected_subprotocol == "pushserver.v1.ack"
        seat.send(message("a"), message("b"))
        await seat.until(lambda: len(acked(seat)) == 2)
        seat.send(message("b"))
        await seat.until(lambda: len(acked(seat)) == 3)
        seat.close(1000)

    assert await stage.client(play, ack=True).run() == 0
    (headers,) = stage.visits
    assert headers["Sec-WebSocket-Protocol"] == "pushserver.v1.ack"
    assert acked(stage.seats[0]) == ["a", "b", "b"]
    assert stage.seats[0].heard[0] == {"type": "ack", "ids": ["a", "b"]}


@pytest.mark.gen_test
async def test_acks_that_come_within_a_moment_share_a_frame(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_session, "ACK_DELAY_S", 1.0)

    async def play(seat: Seat) -> None:
        for mark in (b"a", b"b", b"c"):
            seat.send(message(mark.decode()))
            seat.ping(mark)
            await seat.until(lambda mark=mark: mark in seat.heard)  # type: ignore[misc]  # mypy infers no lambda with a default
        await seat.until(lambda: len(acked(seat)) == 3)
        seat.close(1000)

    assert await stage.client(play, ack=True).run() == 0
    assert stage.seats[0].heard[:4] == [b"a", b"b", b"c", {"type": "ack", "ids": ["a", "b", "c"]}]


def acked(seat: Seat) -> list[str]:
    return [name for frame in seat.heard if isinstance(frame, dict) for name in frame["ids"]]


@pytest.mark.gen_test
async def test_with_ack_and_a_count_the_last_one_is_acknowledged_before_it_leaves(stage: Stage) -> None:
    async def play(seat: Seat) -> None:
        seat.send(message("a"), message("b"), message("c"))

    assert await stage.client(play, ack=True, count=2).run() == 0
    (seat,) = stage.seats
    assert await seat.left() == [{"type": "ack", "ids": ["a", "b"]}, 1000]


@pytest.mark.gen_test
async def test_a_connection_lost_with_acks_under_way_is_only_lost(stage: Stage) -> None:
    async def play(seat: Seat) -> None:
        seat.send(message("a"))
        assert seat.ws_connection is not None
        assert seat.ws_connection.stream is not None
        seat.ws_connection.stream.close()

    assert await stage.client(play, closing(1000), ack=True).run() == 0


@pytest.mark.gen_test
async def test_a_terminal_that_went_away_ends_it_and_closes_the_connection(stage: Stage) -> None:
    def fail(line: str) -> None:
        raise BrokenPipeError("gone")

    for play in (sending(WELCOME), closing(1012, None, WELCOME)):
        with pytest.raises(BrokenPipeError, match="gone"):
            await stage.client(play, write=fail).run()
    assert len(stage.visits) == 2


@pytest.mark.gen_test
async def test_cancelling_closes_the_connection_in_order(stage: Stage) -> None:
    async def play(seat: Seat) -> None:
        seat.send(WELCOME)
        seat.ping(b"1")

    running = asyncio.ensure_future(stage.client(play).run())
    await stage.came.wait()
    await stage.seats[0].until(lambda: stage.seats[0].heard == [b"1"])
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await stage.seats[0].left() == [b"1", 1000]


# -- as an iterator


class Event(NamedTuple):
    kind: str
    fields: Mapping[str, Any]


@pytest.fixture
def told() -> list[Event]:
    return []


def client_of(
    stage: Stage, told: list[Event], *plays: Play | Refusal, token: Any = "t0k3n", **options: Any
) -> Client:
    stage.plays += plays

    def watch(kind: str, fields: Mapping[str, Any]) -> None:
        told.append(Event(kind, fields))

    url = f"ws://127.0.0.1:{stage.port}/ws"
    return Client(url, token, watch=watch, backoff=Backoff(0.5, 4, Random(1)), sleep=stage.sleep, **options)


@pytest.mark.gen_test
async def test_it_is_iterated_over_until_the_server_closes_in_order(stage: Stage, told: list[Event]) -> None:
    client = client_of(stage, told, closing(1012, None, message("a")), closing(1000, "bye", message("b")))
    assert [one async for one in client] == [Message("a", 0, 1), Message("b", 0, 1)]
    assert [event.kind for event in told] == ["closed", "waiting", "closed"]
    assert [one async for one in client] == []


@pytest.mark.gen_test
async def test_an_end_for_good_is_raised(stage: Stage, told: list[Event]) -> None:
    with pytest.raises(ClosedError, match="4403 disconnected") as closed:
        await anext(client_of(stage, told, closing(4403, "disconnected")))
    assert closed.value.code == 4403
    with pytest.raises(RefusedError, match="HTTP 403") as refused:
        await anext(client_of(stage, told, (403, {}, "")))
    assert refused.value.status == 403


@pytest.mark.gen_test
async def test_a_message_is_confirmed_when_the_loop_comes_back_for_the_next(
    stage: Stage, told: list[Event]
) -> None:
    async def play(seat: Seat) -> None:
        seat.send(WELCOME, message("a"))
        seat.ping(b"confirms a")
        seat.send(LIVE)
        await seat.until(lambda: seat.heard == [b"confirms a"])
        seat.close(1000)

    client = client_of(stage, told, play)
    assert (await anext(client)).id == "a"
    (seat,) = stage.seats
    # Another client's whole visit goes by meanwhile.
    assert [one async for one in client_of(stage, [], closing(1000))] == []
    assert seat.heard == []
    with pytest.raises(StopAsyncIteration):
        await anext(client)
    assert seat.heard[0] == b"confirms a"


@pytest.mark.parametrize("ack", [False, True])
@pytest.mark.gen_test
async def test_what_the_loops_body_failed_at_is_not_confirmed(
    ack: bool, stage: Stage, told: list[Event]
) -> None:
    async def play(seat: Seat) -> None:
        seat.send(WELCOME, message("a"))
        if not ack:
            seat.ping(b"confirms a")

    async def fail() -> None:
        async with client_of(stage, told, play, ack=ack) as client:
            async for _ in client:
                raise RuntimeError("not today")

    with pytest.raises(RuntimeError, match="not today"):
        await fail()
    assert await stage.seats[0].left() == [1000]


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "message", "id": ["x"], "time": 0, "content": 1},
        {"type": "message", "id": "x", "time": "soon", "content": 1},
        {"type": "message", "id": "x", "time": 0},
        {"type": ["message"]},
        {},
    ],
)
@pytest.mark.gen_test
async def test_a_frame_without_what_it_should_have_is_told_as_unknown(
    frame: dict[str, Any], stage: Stage, told: list[Event]
) -> None:
    client = client_of(stage, told, closing(1000, None, frame))
    assert [one async for one in client] == []
    assert told[0].kind == "unknown"


@pytest.mark.gen_test
async def test_only_so_many_ids_are_remembered(
    stage: Stage, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SEEN", 2)
    client = client_of(stage, told, closing(1000, None, *(message(name) for name in "abbcab")))
    assert [one.id async for one in client] == ["a", "b", "c", "a", "b"]


# -- tokens


@pytest.mark.gen_test
async def test_a_token_is_kept_until_it_is_refused(stage: Stage, told: list[Event]) -> None:
    tokens = iter(["one", "two"])

    async def new_token() -> str:
        return next(tokens)

    plays: list[Play | Refusal] = [closing(1012, None, WELCOME), (401, {}, ""), (401, {}, "")]
    with pytest.raises(RefusedError):
        await anext(client_of(stage, told, *plays, token=new_token))
    sent = [headers["Authorization"] for headers in stage.visits]
    assert sent == ["Bearer one", "Bearer one", "Bearer two"]


@pytest.mark.gen_test
async def test_no_token_to_be_had_is_told_and_tried_again(stage: Stage, told: list[Event]) -> None:
    answers: Iterator[str | Exception] = iter([ValueError("sold out"), "a b", "good"])

    def new_token() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = client_of(stage, told, closing(1000), token=new_token)
    assert [one async for one in client] == []
    assert [event.fields["reason"] for event in told if event.kind == "failed"] == [
        "no token: sold out",
        "no token: what there is has characters that no token has",
    ]
    assert stage.visits[0]["Authorization"] == "Bearer good"


@pytest.mark.gen_test
async def test_a_token_that_takes_too_long_is_none(
    stage: Stage, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOKEN_TIMEOUT_S", 0.01)
    stage.stop_after = 1
    with pytest.raises(EnoughError):
        await anext(client_of(stage, told, token=lambda: asyncio.sleep(60, "late")))
    assert told[0] == Event("failed", {"reason": "no token: TimeoutError"})


@pytest.mark.gen_test
async def test_a_token_that_is_over_is_not_tried_again(stage: Stage, told: list[Event]) -> None:
    """As after an outage that was longer than its life."""
    plays = [closing(1012, None, expiring_in(-1)), closing(1000)]
    assert [one async for one in client_of(stage, told, *plays, token=iter(["one", "two"]).__next__)] == []
    assert [headers["Authorization"] for headers in stage.visits] == ["Bearer one", "Bearer two"]


def expiring_in(seconds: float) -> dict[str, Any]:
    return {**WELCOME, "expires": int(time.time() + seconds)}


@pytest.mark.gen_test
async def test_a_token_is_refreshed_before_it_expires(
    stage: Stage, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when getting one fails at first, and when the server asks to try again."""
    monkeypatch.setattr(module, "REFRESH_AGAIN_S", 0.01)
    answers: Iterator[str | Exception] = iter(["old", ValueError("not now"), "new"])

    def new_token() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def play(seat: Seat) -> None:
        seat.send(expiring_in(2), LIVE)
        refresh = {"type": "refresh", "token": "new"}
        await seat.until(lambda: seat.heard == [refresh])
        seat.send({"type": "error", "code": "unavailable", "message": "try the refresh again"})
        await seat.until(lambda: seat.heard == [refresh] * 2)
        seat.send(expiring_in(600))
        seat.close(1012)

    client = client_of(stage, told, play, closing(1000), token=new_token)
    assert [one async for one in client] == []
    assert [headers["Authorization"] for headers in stage.visits] == ["Bearer old", "Bearer new"]
    assert told[2] == Event("failed", {"reason": "no token: not now"})


@pytest.mark.gen_test
async def test_the_same_token_again_is_not_sent(stage: Stage, told: list[Event]) -> None:
    asked = asyncio.Event()

    def new_token() -> str:
        if stage.visits:
            asked.set()
        return "same"

    async def play(seat: Seat) -> None:
        seat.send(expiring_in(2), LIVE)
        await asked.wait()
        seat.close(1000)

    assert [one async for one in client_of(stage, told, play, token=new_token)] == []
    assert stage.seats[0].heard == [1000]


@pytest.mark.gen_test
async def test_a_clock_that_is_wrong_makes_no_refresh(stage: Stage, told: list[Event]) -> None:
    asked: list[int] = []

    def new_token() -> str:
        asked.append(1)
        return "token"

    client = client_of(stage, told, closing(1000, None, expiring_in(-3600), LIVE), token=new_token)
    assert [one async for one in client] == []
    assert asked == [1]
