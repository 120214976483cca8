"""What clients send: receipts, requests, and all that is neither."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from pushserver.core.close_codes import CloseCode
from pushserver.core.frames import Binary, Close, Event, Ping, Pong, Text
from pushserver.delivery import incoming
from pushserver.delivery.incoming import MAX_PONG_BACKLOG
from tests.delivery.rig import Line, Rig, rig
from tests.engines.redis_server import RedisServer
from tests.gate import hold, refuse
from tests.pod import eventually


def errors(line: Line) -> list[tuple[str, str]]:
    return [(frame["code"], frame["message"]) for frame in line.wire.of("error")]


def ack(line: Line, *ids: object) -> None:
    line.say(json.dumps({"type": "ack", "ids": ids}))


# -- receipts


@pytest.mark.gen_test
async def test_a_pong_settles_what_was_written_before_its_ping(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1", "m-2")
        line = await on.live()
        line.pong()
        await on.settled()
        assert await on.inbox() == []
        assert on.counted("confirms_total", proof="pong") == 2


@pytest.mark.gen_test
async def test_pongs_of_unknown_counters_are_ignored_and_counted(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1")
        line = await on.live()
        for payload in (b"", b"2", b"999", b"x", b"-1"):
            line.pong(payload)
        assert line.connection.ledger.unconfirmed == 1
        line.pong(b"1")
        line.pong(b"1")
        assert on.counted("receipts_ignored_total", kind="pong") == 6
        await on.settled()
        assert on.counted("settled_total") == 1


@pytest.mark.gen_test
async def test_an_ack_settles_the_messages_it_names(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1", "m-2", "m-3")
        line = await on.live(ack=True)
        ack(line, "m-3", "m-1")
        await on.settled()
        assert await on.inbox() == ["m-2"]
        assert on.counted("confirms_total", proof="ack") == 2


@pytest.mark.gen_test
async def test_who_confirms_by_acks_confirms_nothing_by_pongs(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1")
        line = await on.live(ack=True)
        line.connection.ping(0.0)
        line.pong()
        await on.barrier()
        assert line.connection.ledger.unconfirmed == 1
        assert await on.inbox() == ["m-1"]


@pytest.mark.gen_test
async def test_acks_of_unknown_ids_settle_nothing_of_anybody_and_are_counted(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1")
        await on.send("bob", "b-1")
        line, bob = await on.live(ack=True), await on.live("bob", ack=True)
        ack(line, "b-1", "nobody", 7, None, ["m-1"], "m-1", "m-1")
        await on.settled()
        assert on.counted("receipts_ignored_total", kind="ack") == 6
        assert await on.inbox("bob") == ["b-1"]
        assert bob.connection.ledger.unconfirmed == 1
        assert await on.inbox() == []


@pytest.mark.gen_test
async def test_an_ack_without_its_subprotocol_is_a_bad_frame(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1")
        line = await on.live()
        ack(line, "m-1")
        assert errors(line) == [("bad_frame", "ack needs the subprotocol pushserver.v1.ack")]
        assert line.connection.ledger.unconfirmed == 1


# -- requests


@pytest.mark.gen_test
async def test_a_ping_request_is_answered_by_a_pong_frame(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        line.say('{"type":"ping"}')
        assert line.wire.texts[-1] == {"type": "pong"}


@pytest.mark.gen_test
async def test_anything_else_is_answered_by_an_error_and_the_tenth_ends_it_with_4400(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        for _ in range(9):
            line.say("nonsense")
        assert errors(line) == [("bad_frame", "not JSON")] * 9
        assert line.wire.closed_with is None
        line.say('{"type":"nonsense"}')
        assert len(errors(line)) == 9
        assert line.wire.closed_with == (CloseCode.BAD_FRAMES, "too many bad frames")
        assert on.counted("frames_refused_total") == 10
        assert on.counted("closes_total", code="4400") == 1


@pytest.mark.gen_test
async def test_good_frames_in_between_do_not_make_bad_ones_good(redis_server: RedisServer) -> None:
    async with rig(redis_server.url, limits={"frames_per_s": 1000}) as on:
        line = await on.live()
        for _ in range(10):
            line.say('{"type":"ping"}')
            line.say("nonsense")
        assert line.wire.closed_with == (CloseCode.BAD_FRAMES, "too many bad frames")


@pytest.mark.gen_test
async def test_a_binary_frame_ends_it_with_1003(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        line.receive(Binary(b"{}"))
        assert line.wire.closed_with == (CloseCode.UNSUPPORTED_DATA, "text frames only")


@pytest.mark.gen_test
async def test_a_websocket_ping_is_answered_with_its_payload(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        line.receive(Ping(b"here?"), Ping(b""))
        assert line.wire.pongs == [b"here?", b""]


@pytest.mark.gen_test
async def test_a_client_that_pings_and_does_not_read_is_answered_no_more(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        line.wire.stuck, line.wire.buffered = True, MAX_PONG_BACKLOG
        line.receive(Ping(b"1"))
        line.receive(Ping(b"2"))
        assert line.wire.pongs == [b"1"]
        line.wire.flow()
        line.receive(Ping(b"3"))
        assert line.wire.pongs == [b"1", b"3"]


# -- rates


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "event",
    [Text(b'{"type":"ping"}'), Ping(b""), Pong(b""), Pong(b"999")],
    ids=["text", "ping", "empty", "pong"],
)
async def test_one_frame_beyond_the_rate_ends_it_with_4429(
    redis_server: RedisServer, event: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(redis_server.url, limits={"frames_per_s": 20}) as on:
        line = await on.live()
        _stand_still(monkeypatch)
        line.receive(*[event] * 12)
        line.receive(*[event] * 8)
        assert line.wire.closed_with is None
        line.receive(event)
        assert line.wire.closed_with == (CloseCode.RATE, "too many frames")
        assert on.counted("closes_total", code="4429") == 1


def _stand_still(patch: pytest.MonkeyPatch, at: float = 1000.5) -> None:
    # Of this module alone: the loop goes by the same clock.
    patch.setattr(incoming, "time", SimpleNamespace(monotonic=lambda: at))


@pytest.mark.gen_test
async def test_the_rate_is_counted_anew_each_second(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(redis_server.url, limits={"frames_per_s": 20}) as on:
        line = await on.live()
        for second in range(5):
            _stand_still(monkeypatch, 1000.5 + second)
            line.receive(*[Ping(b"")] * 20)
        assert line.wire.closed_with is None


@pytest.mark.gen_test
async def test_fragments_count_as_the_frames_they_are(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with rig(redis_server.url, limits={"frames_per_s": 20}) as on:
        line = await on.live()
        _stand_still(monkeypatch)
        line.receive(frames=15)
        line.receive(Text(b'{"type":"ping"}'), frames=5)
        assert line.wire.closed_with is None
        line.receive(frames=1)
        assert line.wire.closed_with == (CloseCode.RATE, "too many frames")


@pytest.mark.gen_test
async def test_receipts_are_no_flood(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are messages: the client did not choose how many."""
    async with rig(redis_server.url, limits={"frames_per_s": 5}) as on:
        ids = [f"m-{number}" for number in range(40)]
        await on.send("alice", *ids)
        line = await on.live(ack=True)
        _stand_still(monkeypatch)
        for message_id in ids:
            ack(line, message_id)
        assert line.wire.closed_with is None
        await on.settled()
        assert await on.inbox() == []
        for _ in range(6):
            ack(line, ids[0])
        assert line.wire.closed_with == (CloseCode.RATE, "too many frames")


@pytest.mark.gen_test
async def test_nothing_behind_the_frame_that_ends_it_is_looked_at(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a flood in one read costs what is allowed, not what was sent."""
    async with rig(redis_server.url, limits={"frames_per_s": 20}) as on:
        await on.send("alice", "m-1")
        line = await on.live()
        _stand_still(monkeypatch)
        line.receive(*[Ping(b"x")] * 5000, Pong(b"1"))
        assert line.wire.closed_with == (CloseCode.RATE, "too many frames")
        assert len(line.wire.pongs) == 21
        assert line.connection.ledger.unconfirmed == 1
        line.pong(b"1")  # a later read, while the goodbye is under way
        assert line.connection.ledger.unconfirmed == 1


# -- the client's goodbye


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "code, echoed", [(1000, 1000), (1001, 1001), (None, 1000), (3000, 1000), (4999, 1000), (1007, 1007)]
)
async def test_a_goodbye_is_answered_with_its_code_if_it_is_one_of_ours(
    redis_server: RedisServer, code: int | None, echoed: int
) -> None:
    async with rig(redis_server.url) as on:
        line = await on.live()
        line.receive(Close(code, "bye"))
        assert line.wire.closed_with == (echoed, "")
        assert not on.app.manager.has("alice")


async def _blamed(on: Rig) -> bool:
    return bool(await on.app.stores.commands.call("EXISTS", "ps:blame:{alice}"))


@pytest.mark.gen_test
@pytest.mark.parametrize("code", [1003, 1007, 1009])
async def test_a_client_that_cannot_digest_its_content_blames_what_is_in_flight(
    redis_server: RedisServer, code: int
) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1", "m-2")
        line = await on.live()
        line.leave(code)
        await eventually(lambda: _blamed(on))
        again = on.open()
        await again.got("m-1")
        assert again.connection.suspect


@pytest.mark.gen_test
@pytest.mark.parametrize("code", [None, 1000, 1001, 1002, 1008, 1011, 4000])
async def test_any_other_goodbye_blames_nobody(redis_server: RedisServer, code: int | None) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1")
        (await on.live()).leave(code)
        await on.barrier()
        assert not await _blamed(on)


@pytest.mark.gen_test
async def test_a_cut_blames_nobody(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1")
        (await on.live()).end()
        await on.barrier()
        assert not await _blamed(on)


@pytest.mark.gen_test
async def test_a_goodbye_with_nothing_in_flight_blames_nobody(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        (await on.live()).leave(1009)
        await on.barrier()
        assert not await _blamed(on)


@pytest.mark.gen_test
async def test_a_message_that_is_alone_in_flight_at_two_more_such_closes_is_parked(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "good-1", "poison", "good-2")
        line = await on.live()
        with capture_logs() as lines:
            line.leave(1009)
            await eventually(lambda: _blamed(on))
            for close in (1, 2):
                line = on.open()
                if close == 1:
                    await line.got("good-1")
                    line.pong()
                await eventually(lambda: line.wire.ids[-1:] == ["poison"])  # noqa: B023 - in its turn
                assert line.connection.ledger.unconfirmed == 1
                line.leave(1009)
                await on.settled()
                await eventually(lambda: len(on.app.tasks) == 0)
            assert await on.inbox() == ["good-2"]
        assert on.counted("parked_total") == 1
        assert [(line["event"], line["message_id"]) for line in lines] == [("message.parked", "poison")]
        line = await on.live()
        assert line.wire.ids == ["good-2"]
        assert line.wire.of("live")[0]["missed"] == {"expired": 0, "evicted": 0, "parked": 1}
        assert not line.connection.suspect


@pytest.mark.gen_test
async def test_a_blame_that_redis_did_not_take_is_told(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.send("alice", "m-1")
        line = await on.live()
        refuse(on.app.stores.commands, "inbox_blame")
        with capture_logs() as lines:
            line.leave(1007)
            await eventually(lambda: len(on.app.tasks) == 0)
        assert [(one["event"], one["reason"]) for one in lines] == [("message.blame_lost", "timeout")]


# -- what was missed


@pytest.mark.gen_test
async def test_what_was_missed_is_told_again_until_a_pong_proves_that_it_was_read(
    redis_server: RedisServer,
) -> None:
    async with rig(redis_server.url) as on:
        commands = on.app.stores.commands
        await commands.call("HSET", "ps:missed:{alice}", "expired", 2, "evicted", 1)
        missed = {"expired": 2, "evicted": 1, "parked": 0}
        told = hold(commands, "missed_told")
        told.open()
        line = await on.live()
        assert line.wire.of("live")[0]["missed"] == missed
        line.leave()
        await on.barrier()
        line = await on.live()
        assert line.wire.of("live")[0]["missed"] == missed
        assert await commands.call("HGET", "ps:missed:{alice}", "expired") == b"2"
        line.pong()
        await eventually(lambda: len(on.app.tasks) == 0)
        assert await commands.call("EXISTS", "ps:missed:{alice}") == 0
        line.leave()
        line = await on.live()
        assert line.wire.of("live")[0]["missed"] == {"expired": 0, "evicted": 0, "parked": 0}


@pytest.mark.gen_test
async def test_what_is_missed_after_the_telling_is_told_the_next_time(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        commands = on.app.stores.commands
        await commands.call("HSET", "ps:missed:{alice}", "evicted", 2)
        line = await on.live()
        await commands.call("HINCRBY", "ps:missed:{alice}", "evicted", 5)
        line.pong()
        await eventually(lambda: len(on.app.tasks) == 0)
        line.leave()
        line = await on.live()
        assert line.wire.of("live")[0]["missed"] == {"expired": 0, "evicted": 5, "parked": 0}


@pytest.mark.gen_test
async def test_that_it_was_told_is_written_when_redis_is_back(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.app.stores.commands.call("HSET", "ps:missed:{alice}", "parked", 1)
        line = await on.live()
        fault = refuse(on.app.stores.commands, "missed_told", times=1)
        line.pong()
        await eventually(lambda: len(on.app.tasks) == 0)
        assert fault.count == 1
        assert await on.app.stores.commands.call("EXISTS", "ps:missed:{alice}") == 0


@pytest.mark.gen_test
async def test_that_it_was_told_is_not_pursued_when_the_connection_is_gone(redis_server: RedisServer) -> None:
    async with rig(redis_server.url) as on:
        await on.app.stores.commands.call("HSET", "ps:missed:{alice}", "parked", 1)
        line = await on.live()
        fault = refuse(on.app.stores.commands, "missed_told")
        line.pong()
        await eventually(lambda: fault.count)
        line.leave()
        async with asyncio.timeout(5):
            await eventually(lambda: len(on.app.tasks) == 0)
