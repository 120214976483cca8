"""`pushserver reconcile` and `pushserver explain`, on a Redis and a database."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pushserver.backend import open_publisher
from pushserver.cli import explain, main
from pushserver.database.database import Database
from pushserver.stores.keys import Keys
from tests.database.look import records
from tests.engines.redis_server import RedisServer
from tests.exposure.examples import an_exposure
from tests.pod import SECRET

KEYS = Keys("ps:")


class Desk:
    """Two messages: m-1 reached alice and waits for bob, m-2 waits for alice."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'kept.db'}"
        self._flags = ["--set", f"redis.url={server.url}", "--set", f"auth.secret={SECRET}"]
        asyncio.run(self._publish(server.url))
        self.redis: Any = server.client()
        self.queued_at = int(self.redis.hget(KEYS.publish("m-1"), "queued_at") or "")
        self.database = Database(self.url)
        self.database.open()
        self.expose("alice")
        self.settle("alice", "m-1")

    async def _publish(self, url: str) -> None:
        async with open_publisher(url) as publisher:
            await publisher.send("hello", users=["alice", "bob"], message_id="m-1")
            await publisher.send("hello", users=["alice"], message_id="m-2")
            await publisher.send("hello", everyone=True, message_id="c-1")

    def expose(self, user: str) -> None:
        self.database.store(records(an_exposure(user, queued_at=self.queued_at)), [])

    def settle(self, user: str, message_id: str) -> None:
        self.redis.lrem(KEYS.inbox(user), 1, message_id)

    def run(self, *arguments: str, store: bool = True) -> int:
        return main([*arguments, *(["--store", self.url] if store else []), *self._flags])


@pytest.fixture
def desk(redis_server: RedisServer, tmp_path: Path) -> Any:
    made = Desk(redis_server, tmp_path)
    yield made
    made.database.close()
    made.redis.close()


# -- reconcile


def test_a_period_in_which_all_is_well_ends_with_0(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.run("reconcile", "--wait", "0") == 0
    out = capsys.readouterr().out
    assert out == "2 messages: 3 accepted, 1 exposed, 2 waiting, 0 difference\n"


def test_what_is_lost_is_shown_by_message_and_ends_with_1(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.settle("bob", "m-1")
    assert desk.run("reconcile", "--wait", "0") == 1
    head, row, *_, sums, differ = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["MESSAGE", "PUBLISHED", "ACCEPTED"]
    assert (row.split()[0], row.split()[-1]) == ("m-1", "1")
    assert "1 difference" in sums
    assert differ == "1 message differs"
    assert desk.run("reconcile", "--wait", "0", "--json", "--all") == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["difference"] for one in told["balances"]] == [1, 0]
    assert (told["messages"], told["differing"], told["in_stream"]) == (2, 1, 0)


def test_of_very_many_that_differ_the_first_are_shown_and_the_others_counted(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pushserver.cli.reconcile.ROWS", 1)
    for message_id, user in (("m-1", "bob"), ("m-2", "alice")):
        desk.settle(user, message_id)
    assert desk.run("reconcile", "--wait", "0") == 1
    out = capsys.readouterr().out
    assert "m-1" in out
    assert "m-2" not in out
    assert "... and 1 more (--json)\n" in out
    assert "2 messages differ" in out


def test_what_else_is_known_is_said(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.redis.hdel(KEYS.publish("m-2"), "accepted_at")
    desk.redis.rpush(KEYS.gone("carol"), *["expired 1 x"] * 1000)
    desk.redis.xadd("ps:exposures", {"data": "{}"})
    assert desk.run("reconcile", "--all") == 0
    out = capsys.readouterr().out
    assert out.startswith("MESSAGE ")
    assert "\n1 message: 2 accepted, 1 exposed, 1 waiting, 0 difference\n" in out
    assert "1 exposure event waits in the stream" in out
    assert "1 publish was not completed (nobody was told 202), and is left out: m-2\n" in out
    assert "carol" not in out, "nothing differs"
    for number in range(12):
        fields = {"digest": "x", "kind": "users", "users": 1, "queued_at": desk.queued_at}
        desk.redis.hset(KEYS.publish(f"n-{number}"), mapping=fields)
    desk.settle("bob", "m-1")
    assert desk.run("reconcile", "--wait", "0") == 1
    out = capsys.readouterr().out
    assert "13 publishes were not completed (nobody was told 202), and are left out: " in out
    assert " and 3 more\n" in out
    assert "of 1 user more messages have gone than are noted, so differences may be theirs: carol\n" in out
    assert desk.run("reconcile", "--wait", "0", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["full"], told["full_users"], len(told["unfinished"])) == (1, ["carol"], 13)


def test_a_redis_that_came_back_empty_does_not_add_up(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    shown: dict[str, Any] = {"queued_at": desk.queued_at, "confirmed_at": desk.queued_at + 20}
    desk.database.store(records(*(an_exposure(user, **shown) for user in ("carol", "dora"))), [])
    desk.settle("bob", "m-1")
    desk.redis.hset(KEYS.publish("m-1"), "users", "3")
    assert desk.run("reconcile", "--wait", "0") == 0
    desk.redis.flushall()
    capsys.readouterr()
    assert desk.run("reconcile") == 1
    sums, unknown = capsys.readouterr().out.splitlines()
    assert sums == "0 messages: 0 difference"
    assert unknown == "2 exposures of 1 message that Redis does not know: m-1"
    assert desk.run("reconcile", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["unknown"] == {"exposures": 2, "messages": 1, "ids": ["m-1"]}


def test_a_period_without_messages_adds_up(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.run("reconcile", "--since", "2999-01-01") == 0
    assert capsys.readouterr().out == "0 messages: 0 difference\n"


def test_without_a_database_or_exposures_nothing_is_reconciled(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk.run("reconcile", store=False) == 2
    assert "pushserver consume" in capsys.readouterr().err
    assert desk.run("reconcile", "--set", "exposure.sink=none") == 2
    assert "exposure.sink" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["reconcile", "--since", "yesterday"],
        ["reconcile", "--wait", "-1"],
        ["reconcile", "--wait", "86401"],
        ["reconcile", "--wait", "1e3"],
        ["reconcile", "--store", "mysql://x"],
        ["explain"],
        ["explain", "a b"],
        ["explain", "m-1", ""],
        ["explain", "m-1", "a\nb"],
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize("since", ["90s", "0m", "1234567h", "yesterday"])
def test_a_wrong_length_of_time_is_told_with_its_units(
    since: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["reconcile", "--since", since])
    assert "m, h or d (minutes, hours, days)" in capsys.readouterr().err


# -- explain


def test_a_message_is_explained_with_its_balance(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.run("explain", "m-1") == 0
    out = capsys.readouterr().out
    assert out.startswith("m-1: accepted, ")
    for part in ("for users, 2 of them", "1 exposed", "1 waiting", "0 difference"):
        assert part in out
    assert desk.run("explain", "c-1") == 0
    assert "in the log at" in capsys.readouterr().out


def test_a_message_is_explained_for_each_user(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.run("explain", "m-1", "alice") == 0
    out = capsys.readouterr().out
    assert "alice: exposed, 2023-11-14 22:13:20Z: confirmed on 1 connection\n" in out
    assert "exposed on c-1 of pod-1, live" in out
    assert desk.run("explain", "m-1", "bob", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["user"]["state"], told["exposures"], told["known"]) == ("waiting", [], True)


def test_what_redis_no_longer_knows_the_database_may(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.redis.flushall()
    assert desk.run("explain", "m-1", "alice") == 0
    assert "exposed on c-1 of pod-1" in capsys.readouterr().out
    assert desk.run("explain", "m-1", "bob") == 1
    assert capsys.readouterr().out == "m-1: unknown\n"


def test_without_a_database_redis_is_explained(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert desk.run("explain", "m-1", "bob", store=False) == 0
    out = capsys.readouterr().out
    assert "bob: waiting" in out
    assert "without exposures: consume.database_url" in out


def test_a_database_that_is_away_hides_nothing_of_redis(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.url = "postgresql://nobody@127.0.0.1:1/none"
    assert desk.run("explain", "m-1", "bob") == 0
    assert "without exposures: connection" in capsys.readouterr().out
    assert desk.run("reconcile", "--wait", "0") == 1


def test_connections_are_told_of_and_move_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    on = {"pod": "pod-1", "connection": "c-9", "state": "live", "pushed_at": 1000, "confirmed": True}
    idle = {**on, "connection": "c-8", "pushed_at": None, "confirmed": False}
    silent = {"pod": "pod-2", "connection": None}
    way = {"user": "a", "state": "sent", "why": "so", "at": 1000, "connections": [on, idle, silent]}
    shown = {"connection": "\x1b[2J", "pod": "p", "source": "live", "proof": "pong"}
    explain.print_told(
        {
            "id": "m",
            "state": "accepted",
            "why": "so",
            "user": way,
            "exposures": [{**shown, "pushed_at": 1, "confirmed_at": 2}],
            "database": "read",
        }
    )
    out = capsys.readouterr().out
    assert "connection c-9 of pod-1, live: sent 1970-01-01 00:00:01Z, confirmed" in out
    assert "connection c-8 of pod-1, live: not sent, or settled" in out
    assert "pod-2 did not answer in time" in out
    assert "\x1b" not in out
