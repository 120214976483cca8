"""One event is one line, and holds no secret."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from pushserver.logs import configure, mask, printable

HOSTILE = "\r\nlevel=error \x1b[2J\x00\x85\x9b\u2028\u202e\x7f\udcff\"'\\"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, names = logging.getLogger(), ("pushserver", "tornado.access", "tornado.general")
    handlers, level = root.handlers[:], root.level
    levels = [logging.getLogger(name).level for name in names]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(before)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def own() -> Any:
    return structlog.get_logger("pushserver.test")


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def only_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = lines(capsys)
    event: dict[str, Any] = json.loads(line)
    return event


def test_json_says_when_how_grave_who_and_what_first(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    own().warning("connection.closed", code=4408, user="ann")
    event = only_json(capsys)
    assert list(event) == ["time", "level", "logger", "event", "code", "user"]
    assert event.pop("time").endswith("Z")
    assert event == {
        "level": "warning",
        "logger": "pushserver.test",
        "event": "connection.closed",
        "code": 4408,
        "user": "ann",
    }


def test_console_says_the_same_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "console")
    own().info(
        "connection.open", user="ann", agent="a b", n=3, none=None, empty="", categories={"vip": ["3"]}
    )
    (line,) = lines(capsys)
    assert line.partition("Z ")[2] == (
        'info     connection.open user=ann agent="a b" n=3 none=null empty="" categories={"vip": ["3"]}'
        " [pushserver.test]"
    )


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_hostile_values_stay_on_one_line_of_plain_text(capsys: pytest.CaptureFixture[str], fmt: str) -> None:
    configure("info", fmt)
    own().info(
        HOSTILE, value=HOSTILE, nested={HOSTILE: [HOSTILE, (HOSTILE,)]}, raw=HOSTILE.encode("utf-8", "ignore")
    )
    own().info("x", **{HOSTILE: 1})
    logging.getLogger("tornado.general").warning("Malformed %s", HOSTILE)
    text = capsys.readouterr().err
    assert text.count("\n") == 3
    assert text.replace("\n", "").isprintable()
    assert text.encode()


def test_json_can_be_parsed_whatever_a_value_is(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    deep: list[Any] = []
    for _ in range(2000):
        deep = [deep]
    own().info(
        HOSTILE,
        nan=float("nan"),
        inf=float("-inf"),
        raw=b"\xff\n",
        some={1},
        deep=deep,
        huge=10**5000,
        odd=object,
        key={1: 2},
    )
    event = only_json(capsys)
    assert event["event"].encode()
    assert (event["nan"], event["inf"], event["raw"]) == ("nan", "-inf", "\\xff\n")
    assert (event["some"], event["odd"], event["key"]) == ([1], "<class 'object'>", {"1": 2})
    assert event["deep"] == [[[[[["..."]]]]]]
    assert int(event["huge"], 16) == 10**5000


def test_a_traceback_is_in_the_line_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    fail(own())
    event = only_json(capsys)
    assert "ValueError" in event["exception"]
    assert JWT not in event["exception"]


def test_a_traceback_is_marked_line_by_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "console")
    fail(own())
    fail(logging.getLogger("asyncio"))
    text = capsys.readouterr().err
    assert text.replace("\n", "").isprintable()
    first, *trace = text.splitlines()
    heads = [line for line in trace if not line.startswith("    | ")]
    assert "it.failed" in first
    assert len(heads) == 1
    assert "it.failed" in heads[0]
    assert any("ValueError" in line for line in trace)
    assert JWT not in "".join(trace)


def fail(log: Any) -> None:
    try:
        refuse()
    except ValueError:
        log.exception("it.failed")


def refuse() -> None:
    raise ValueError(f"{JWT}\r\n2026-01-01 error forged\x1b[2J")


def test_libraries_take_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    logging.getLogger("redis").error("lost %s", "connection")
    event = only_json(capsys)
    assert (event["level"], event["logger"], event["event"]) == ("error", "redis", "lost connection")


def test_warnings_take_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", FutureWarning, stacklevel=1)
    assert "FutureWarning: old" in only_json(capsys)["event"]


def test_the_access_log_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug", "json")
    logging.getLogger("tornado.access").error("500 GET /ws?token=%s", JWT)
    assert lines(capsys) == []


def test_what_tornado_quotes_of_a_malformed_request_is_not_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("debug", "json")
    logging.getLogger("tornado.general").info("Malformed HTTP message: Invalid header value %r", "a secret")
    assert lines(capsys) == []


@pytest.mark.parametrize(
    "level,heard",
    [
        ("debug", ["debug", "info", "warning", "error", "library info"]),
        ("info", ["info", "warning", "error", "library info"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_nothing_below_the_level_is_heard_and_libraries_never_below_info(
    capsys: pytest.CaptureFixture[str], level: str, heard: list[str]
) -> None:
    configure(level, "json")
    for name in ("debug", "info", "warning", "error"):
        getattr(own(), name)(name)
    logging.getLogger("redis").debug("library debug")
    logging.getLogger("redis").info("library info")
    assert [json.loads(line)["event"] for line in lines(capsys)] == heard


def test_configuring_again_replaces_what_was(capsys: pytest.CaptureFixture[str]) -> None:
    configure("debug", "json")
    configure("warning", "console")
    own().info("not heard")
    own().warning("heard")
    (line,) = lines(capsys)
    assert " heard [" in line


@pytest.mark.parametrize("fmt", ["json", "console"])
@pytest.mark.parametrize(
    "key",
    ["token", "secret", "password", "authorization", "Authorization", "Cookie", "api_keys", "auth_secret"],
)
def test_what_stands_under_a_secret_key_is_masked(
    capsys: pytest.CaptureFixture[str], key: str, fmt: str
) -> None:
    configure("info", fmt)
    own().info("x", **{key: "s3cr3t"}, headers={key: ["s3cr3t"]}, list=[{key: b"s3cr3t"}])
    text = capsys.readouterr().err
    assert text.count("***") == 3
    assert "s3cr3t" not in text


def test_a_number_or_nothing_under_a_secret_key_is_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    own().info("x", token_chars=8192, token="", query_token=False)
    event = only_json(capsys)
    assert (event["token_chars"], event["token"], event["query_token"]) == (8192, "", False)


@pytest.mark.parametrize(
    "text,masked",
    [
        ("GET /ws?token=abc.def&user=ann", "GET /ws?token=***&user=ann"),
        ("uri='/ws?user=ann&token=abc'", "uri='/ws?user=ann&token=***'"),
        ("Cookie: pushserver_token=abc; a=b", "Cookie: pushserver_token=***; a=b"),
        ("Authorization: Bearer abc", "Authorization: Bearer ***"),
        ("pushserver.v1, bearer.abc.d-_", "pushserver.v1, bearer.***"),
        ("redis://user:p@ss:word@host:6379/0", "redis://user:***@host:6379/0"),
        ("redis://:pass@host", "redis://:***@host"),
        (f"refused {JWT}", "refused ***"),
        (f'{{"token":"{JWT}"}}', '{"token":"***"}'),
        ("http://host:8000/a@b", "http://host:8000/a@b"),
        ("12 tokens left", "12 tokens left"),
    ],
)
def test_what_looks_like_a_secret_is_masked_in_any_text(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_a_secret_setting_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    own().info("x", value=SecretStr("s3cr3t"), event_text=f"{SecretStr('s3cr3t')!r}")
    assert "s3cr3t" not in capsys.readouterr().err


def test_printable_leaves_what_people_write_alone() -> None:
    assert printable("Grüße, 你好 😀") == "Grüße, 你好 😀"
    assert printable("a\r\n\x1b[2J\u202e\udcff") == r"a\r\n\x1b[2J\u202e\udcff"


def test_a_full_or_closed_standard_error_disturbs_nobody() -> None:
    program = (
        "import sys, structlog; from pushserver.logs import configure; configure('info', 'json')\n"
        "structlog.get_logger('pushserver').info('lost'); print('goes on')"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], stderr=full, stdout=subprocess.PIPE, check=False, timeout=30
        )
    assert done.stdout == b"goes on\n"
