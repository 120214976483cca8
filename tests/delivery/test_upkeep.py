"""What is due for a connection that says nothing."""

from __future__ import annotations

import pytest

from pushserver.core.clock import StoreClock
from pushserver.delivery.connection import Connection, State
from pushserver.delivery.upkeep import Upkeep
from tests.delivery.wire import Wire, connection, limits, message

NOW = 5000.0
"""A moment of the monotonic clock."""


class Clock(StoreClock):
    """Redis' clock, standing still."""

    def now_s(self) -> float:
        return 1_700_000_000.0


def upkeep(**changed: object) -> Upkeep:
    """Pings after 20 s of silence, 8 s for a pong, 30 s for an ack."""
    given = {"ping_interval_s": 20.0, "ping_timeout_s": 8.0, "ack_timeout_s": 30.0, **changed}
    return Upkeep(limits(**given), Clock())


def silent(since: float, *, ack_mode: bool = False, expires_in: float = 1e6) -> tuple[Connection, Wire]:
    """A connection that nothing came from since a moment."""
    wire = Wire()
    wire.progressed_at = since
    return connection(wire=wire, ack_mode=ack_mode, expires_at=1_700_000_000 + expires_in), wire


def test_the_expiry_is_by_redis_clock() -> None:
    one, _ = silent(NOW, expires_in=60)
    assert upkeep().expiry(one, NOW) == pytest.approx(NOW + 60)


def test_the_first_visit_comes_when_a_message_may_have_been_stuck_for_the_time_out() -> None:
    one, _ = silent(NOW)
    assert upkeep(ping_timeout_s=4.0).first_visit(one, NOW) == NOW + 4


def test_a_message_that_is_stuck_is_noticed_at_the_time_out_of_its_ping() -> None:
    one, _ = silent(NOW)
    at = upkeep(ping_timeout_s=4.0)
    looked = at.first_visit(one, NOW)
    one.push([message("m-1")], "live", 0, NOW + 1)
    assert at.no_progress(one, looked) == ""
    assert at.keep_alive(one, looked) == NOW + 5
    assert at.no_progress(one, NOW + 5) == "pong"


def test_a_token_that_ends_sooner_is_looked_at_when_it_ends() -> None:
    one, _ = silent(NOW, expires_in=3)
    assert upkeep().first_visit(one, NOW) == pytest.approx(NOW + 3)


def test_a_connection_that_was_silent_for_the_interval_is_pinged_and_looked_at_for_its_pong() -> None:
    one, wire = silent(NOW - 20)
    assert upkeep().keep_alive(one, NOW) == NOW + 8
    assert wire.pings == [b"1"]


def test_pings_come_between_three_quarters_and_the_whole_of_the_interval() -> None:
    dues = []
    for _ in range(200):
        one, wire = silent(NOW - 5)
        dues.append(upkeep(ping_timeout_s=20.0).keep_alive(one, NOW))
        assert wire.pings == []
    assert min(dues) >= NOW + 10
    assert max(dues) <= NOW + 15
    assert max(dues) - min(dues) > 4


def test_while_a_ping_waits_for_its_pong_there_is_no_other() -> None:
    one, wire = silent(NOW - 30)
    upkeep().keep_alive(one, NOW)
    assert upkeep().keep_alive(one, NOW + 3) == NOW + 8
    wire.progressed_at = NOW + 4
    assert upkeep().keep_alive(one, NOW + 5) == NOW + 12
    assert wire.pings == [b"1"]


def test_an_interval_shorter_than_the_time_out_is_kept_as_well() -> None:
    one, wire = silent(NOW - 30)
    slow = upkeep(ping_timeout_s=60.0)
    assert slow.keep_alive(one, NOW) == NOW + 20
    assert slow.keep_alive(one, NOW + 20) == NOW + 40
    wire.progressed_at = NOW + 31
    one.pong(b"1", NOW + 31)
    assert slow.keep_alive(one, NOW + 40) <= NOW + 51
    assert slow.keep_alive(one, NOW + 51) == NOW + 71
    assert wire.pings == [b"1", b"2"]


def test_no_byte_within_the_time_out_after_a_ping_is_no_progress() -> None:
    one, _ = silent(NOW - 30)
    one.ping(NOW)
    assert upkeep().no_progress(one, NOW + 7.9) == ""
    assert upkeep().no_progress(one, NOW + 8) == "pong"


def test_a_byte_in_either_direction_is_progress() -> None:
    one, wire = silent(NOW - 30)
    one.ping(NOW)
    wire.progressed_at = NOW + 5
    assert upkeep().no_progress(one, NOW + 12.9) == ""
    assert upkeep().no_progress(one, NOW + 13) == "pong"


def test_without_a_ping_in_flight_silence_is_no_fault() -> None:
    one, _ = silent(NOW - 1000)
    assert upkeep().no_progress(one, NOW) == ""


def test_a_client_that_acks_nothing_makes_no_progress_even_if_it_answers_pings() -> None:
    one, wire = silent(NOW, ack_mode=True)
    one.push([message("m-1")], "live", 0, NOW)
    wire.progressed_at = NOW + 29
    assert upkeep().no_progress(one, NOW + 29.9) == ""
    assert upkeep().no_progress(one, NOW + 30) == "ack"


def test_each_ack_gives_the_rest_its_whole_time() -> None:
    one, _ = silent(NOW, ack_mode=True)
    one.push([message("m-1"), message("m-2")], "live", 0, NOW)
    one.ack(["m-1"], NOW + 20)
    assert upkeep().no_progress(one, NOW + 49.9) == ""
    assert upkeep().no_progress(one, NOW + 50) == "ack"
    one.ack(["m-2"], NOW + 50)
    assert upkeep().no_progress(one, NOW + 500) == ""


def test_who_confirms_by_pongs_is_not_asked_for_acks() -> None:
    one, _ = silent(NOW)
    one.push([message("m-1")], "live", 0, NOW)
    one.pong(b"1", NOW)
    one.push([message("m-2")], "live", 0, NOW)
    one.transport.progressed_at = NOW + 30
    assert upkeep(ping_timeout_s=100.0).no_progress(one, NOW + 40) == ""


def waiting(one: Connection, now: float, ping_by_within_s: float = 2.0) -> float:
    """A message was pushed whose confirm can wait: by when a ping is to go out."""
    assert one.push_live_only(message("m-1"), 0, now)
    assert now <= one.ping_by <= now + ping_by_within_s
    return one.ping_by


def live(since: float, **options: object) -> tuple[Connection, Wire]:
    one, wire = silent(since, **options)  # type: ignore[arg-type]
    one.state = State.LIVE
    return one, wire


def test_a_ping_that_can_wait_goes_out_when_it_is_due_and_not_before() -> None:
    one, wire = live(NOW)
    ping_by = waiting(one, NOW)
    upkeep().keep_alive(one, NOW)
    assert wire.pings == []
    assert upkeep().keep_alive(one, ping_by) == ping_by + 8
    assert (wire.pings, one.ping_by) == ([b"1"], 0.0)


def test_a_ping_that_waited_goes_out_when_it_is_due_after_the_pong_of_another() -> None:
    """Its pong may come before: then nothing else would send the one that waits."""
    one, wire = live(NOW - 30)
    upkeep().keep_alive(one, NOW)
    ping_by = waiting(one, NOW + 0.1)
    upkeep().keep_alive(one, NOW + 0.1)
    wire.progressed_at = NOW + 0.1
    one.pong(b"1", NOW + 0.1)
    assert wire.pings == [b"1"]
    upkeep().keep_alive(one, ping_by)
    assert wire.pings == [b"1", b"2"]


def test_a_ping_that_is_due_while_another_is_in_flight_goes_out_with_its_pong() -> None:
    one, wire = live(NOW - 30)
    upkeep().keep_alive(one, NOW)
    ping_by = waiting(one, NOW + 0.1)
    assert upkeep().keep_alive(one, ping_by) == NOW + 8
    assert wire.pings == [b"1"]
    one.pong(b"1", ping_by + 0.1)
    assert (wire.pings, one.ping_by) == ([b"1", b"2"], 0.0)


def test_who_confirms_by_acks_has_no_ping_that_waits() -> None:
    one, _ = live(NOW, ack_mode=True)
    one.push_live_only(message("m-1"), 0, NOW)
    assert one.ping_by == 0.0


def test_who_confirms_by_acks_is_looked_at_when_one_is_overdue() -> None:
    one, wire = silent(NOW, ack_mode=True)
    one.push([message("m-1")], "live", 0, NOW)
    wire.progressed_at = NOW + 19
    assert upkeep(ping_timeout_s=20.0).keep_alive(one, NOW + 20) == NOW + 30
    one.ack(["m-1"], NOW + 20)
    assert upkeep(ack_timeout_s=1.0).keep_alive(one, NOW + 20) == NOW + 21


# -- pings for what comes from the log


def pings_in(seconds: float, *, log_confirm_s: float, broadcast_every_s: float) -> int:
    """Pings to a client that answers each and says nothing else, pings after 25 s of silence."""
    given = limits(ping_interval_s=25.0, log_confirm_s=log_confirm_s)
    wire = Wire()
    one, at = connection(wire=wire, window=given), Upkeep(given, Clock())
    now = wire.progressed_at = NOW
    visit, broadcast, number, pings = at.first_visit(one, now), NOW, 0, 0
    while now < NOW + seconds:
        now = min(visit, broadcast)
        if now == broadcast:
            number += 1
            one.push_log([(number, message(f"m-{number}"))], "live", 0, now)
            broadcast = now + broadcast_every_s
            visit = min(visit, one.ping_by or visit)
        if now == visit:
            visit = at.keep_alive(one, now)
        for ping in wire.pings:
            pings += 1
            wire.progressed_at = now
            answer = one.pong(ping, now)
            assert answer is not None
            one.forget([sent.id for sent in answer[0]])
        wire.writes.clear()
    return pings


def test_with_log_confirm_s_at_the_ping_interval_broadcasts_cost_no_extra_pings() -> None:
    """25 s of silence, shortened by a quarter at most, are between two pings in any case."""
    assert pings_in(5000, log_confirm_s=25.0, broadcast_every_s=1e9) <= 5000 / (25 * 0.75)
    for every_s in (1, 7, 24, 60):
        assert pings_in(5000, log_confirm_s=25.0, broadcast_every_s=every_s) <= 5000 / (25 * 0.75)


def test_otherwise_each_broadcast_is_confirmed_within_log_confirm_s_by_one_ping_for_many() -> None:
    """One ping for all that came until then: on average every 1.5 s, if something always comes."""
    assert 290 < pings_in(500, log_confirm_s=2.0, broadcast_every_s=0.1) < 380
    assert pings_in(5000, log_confirm_s=2.0, broadcast_every_s=60) < 5000 / 60 + 5000 / (25 * 0.75) + 1


def test_a_client_that_is_never_silent_confirms_within_log_confirm_s_all_the_same() -> None:
    one, wire = silent(NOW)
    at = upkeep(ping_interval_s=25.0)
    one.push_log([(1, message("m-1"))], "live", 0, NOW)
    wire.progressed_at = NOW + 26
    at.keep_alive(one, NOW + 26)
    assert len(wire.pings) == 1
