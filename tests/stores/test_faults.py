from __future__ import annotations

import asyncio

import pytest
from redis import exceptions as redis_errors
from redis._parsers.base import BaseParser

from pushserver.core.errors import StoreError, StoreRefusedError, StoreUnavailableError
from pushserver.stores.faults import NOT_READY, Redirect, is_noscript, redirect, store_error

SECRETS = ("ps:inbox:{alice}", "hunter2", "hello content")

ANSWERS = [
    ("OOM command not allowed when used memory > 'maxmemory'.", StoreRefusedError, "oom"),
    ("OOM allow-oom flag is not set on the script, can not run it", StoreRefusedError, "oom"),
    ("READONLY You can't write against a read only replica.", StoreUnavailableError, "readonly"),
    ("MASTERDOWN Link with MASTER is down", StoreUnavailableError, "readonly"),
    ("LOADING Redis is loading the dataset in memory", StoreUnavailableError, "loading"),
    ("MISCONF Redis is configured to save RDB snapshots", StoreRefusedError, "misconf"),
    ("NOREPLICAS Not enough good replicas to write.", StoreRefusedError, "noreplicas"),
    ("BUSY Redis is busy running a script.", StoreUnavailableError, "busy"),
    ("UNKILLABLE Sorry the script already executed write commands", StoreUnavailableError, "busy"),
    ("NOAUTH Authentication required.", StoreRefusedError, "auth"),
    ("WRONGPASS invalid username-password pair or user is disabled.", StoreRefusedError, "auth"),
    ("NOPERM this user has no permissions to run the 'evalsha' command", StoreRefusedError, "auth"),
    ("CLUSTERDOWN The cluster is down", StoreUnavailableError, "cluster_down"),
    ("CLUSTERDOWN Hash slot not served", StoreUnavailableError, "cluster_down"),
    ("TRYAGAIN Multiple keys request during rehashing of slot", StoreUnavailableError, "moved"),
    ("MOVED 3999 127.0.0.1:6381", StoreUnavailableError, "moved"),
    ("ASK 3999 127.0.0.1:6381", StoreUnavailableError, "moved"),
    ("ERR max number of clients reached", StoreUnavailableError, "connection"),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", StoreRefusedError, "error"),
    ("BUSYGROUP Consumer Group name already exists", StoreRefusedError, "error"),
    ("BUSYKEY Target key name already exists.", StoreRefusedError, "error"),
    ("ERR there is no ROOM for BUSY or OOM or READONLY here", StoreRefusedError, "error"),
    ("NOSCRIPT No matching script. Please use EVAL.", StoreRefusedError, "error"),
    ("ERR unknown command 'FOO'", StoreRefusedError, "error"),
]


@pytest.mark.parametrize("text, kind_of_error, kind", ANSWERS)
def test_an_answer_has_its_class(text: str, kind_of_error: type[StoreError], kind: str) -> None:
    fault = store_error(BaseParser.parse_error(text))
    assert (type(fault), fault.kind) == (kind_of_error, kind)


@pytest.mark.parametrize(
    "error, kind",
    [
        (redis_errors.TimeoutError("Timeout reading from socket"), "timeout"),
        (TimeoutError(), "timeout"),
        (redis_errors.ConnectionError("Error 111 connecting to 127.0.0.1:6379."), "connection"),
        (ConnectionResetError(104, "Connection reset by peer"), "connection"),
        (asyncio.CancelledError(), "closed"),
    ],
)
def test_what_the_network_does_is_worth_another_try(error: BaseException, kind: str) -> None:
    fault = store_error(error)
    assert (type(fault), fault.kind) == (StoreUnavailableError, kind)


def test_what_is_classed_already_stays() -> None:
    fault = StoreRefusedError("oom", "full")
    assert store_error(fault) is fault


def test_an_error_says_what_happened_so_that_an_operator_can_act() -> None:
    fault = store_error(redis_errors.ConnectionError("Error 111 connecting to 10.0.0.1:6379. Refused."))
    assert str(fault) == "connection: ConnectionError: Error 111 connecting to 10.0.0.1:6379. Refused."
    wrong = store_error(
        BaseParser.parse_error("WRONGPASS invalid username-password pair or user is disabled.")
    )
    assert str(wrong) == "auth: AuthenticationError: invalid username-password pair or user is disabled."


@pytest.mark.parametrize(
    "text",
    [
        "ERR unknown command 'GTE', with args beginning with: 'ps:inbox:{alice}' 'hunter2' ",
        "ERR unknown command `GTE`, with args beginning with: `ps:inbox:{alice}`, `hunter2`, ",
        "NOGROUP No such key 'ps:inbox:{alice}' or consumer group 'hunter2' in XREADGROUP",
        'ERR Error "hello content" in script',
        "NOPERM User app has no permissions to access the 'ps:inbox:{alice}' key",
        "READONLY 'hunter2'",
    ],
)
def test_the_text_of_an_error_holds_no_key_and_no_argument(text: str) -> None:
    fault = store_error(BaseParser.parse_error(text))
    assert not any(secret in str(fault) for secret in SECRETS)


def test_the_text_of_an_error_has_a_bound() -> None:
    assert len(str(store_error(redis_errors.ResponseError("x" * 10_000)))) < 200


def test_only_noscript_is_noscript() -> None:
    assert is_noscript(BaseParser.parse_error("NOSCRIPT No matching script."))
    assert not is_noscript(BaseParser.parse_error("ERR NOSCRIPT"))
    assert not is_noscript(b"NOSCRIPT")


def test_where_a_node_sends_us() -> None:
    assert redirect(BaseParser.parse_error("MOVED 3999 10.0.0.1:6381")) == Redirect(
        3999, ("10.0.0.1", 6381), False
    )
    assert redirect(BaseParser.parse_error("ASK 3999 ::1:6381")) == Redirect(3999, ("::1", 6381), True)
    assert redirect(BaseParser.parse_error("MOVED 3999 :6381")) == Redirect(3999, ("", 6381), False)
    assert redirect(BaseParser.parse_error("TRYAGAIN later")) is None
    assert redirect(b"MOVED 3999 10.0.0.1:6381") is None


def test_every_kind_that_means_not_now_is_a_kind_there_is() -> None:
    assert {kind for _, _, kind in ANSWERS} >= NOT_READY
