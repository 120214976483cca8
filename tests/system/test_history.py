"""What a look at Redis tells the history."""

from __future__ import annotations

import time

from tests.engines.engine import Engine
from tests.system.history import Broadcast, History


def test_what_left_the_inbox_or_is_behind_the_cursor_is_settled_from_then_on(
    engine: Engine,
) -> None:
    history = History()
    history.accepted["alice"] = ["m1", "m2"]
    history.categories = {"alice": {"vip": ("1",)}, "bob": {}}
    history.broadcasts = {name: Broadcast({}, 0.0, answered=True) for name in ("b1", "b2")}
    with engine.client() as redis:
        redis.rpush("ps:inbox:{alice}", "m1", "m2")
        redis.xadd("ps:log", {"id": "b1"}, id="5-1")
        redis.xadd("ps:log", {"id": "b2"}, id="5-2")
        redis.set("ps:cursor:{alice}", "5-0")
        history.look(redis)
        assert not history.settled
        before = time.monotonic()
        redis.lpop("ps:inbox:{alice}")
        redis.set("ps:cursor:{alice}", "5-1")
        history.look(redis)
        assert set(history.settled) == {("alice", "m1"), ("alice", "b1")}
        first = dict(history.settled)
        assert all(before < settled < time.monotonic() for settled in first.values())
        history.look(redis)
        assert history.settled == first
        assert history.log == {"b1": 5 << 64 | 1, "b2": 5 << 64 | 2}
        assert history.cursors == {"alice": 5 << 64 | 1, "bob": 0}
