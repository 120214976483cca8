"""The answer to a request that is refused, as bytes; how it is sent is shown in `test_front`."""

from __future__ import annotations

import pytest

from pushserver.core.client_ip import ClientIPRule
from pushserver.core.context import Context
from pushserver.core.request import HttpRequest
from pushserver.web.answer import Answer, error_answer, refusal


def context() -> Context:
    return Context(HttpRequest("GET", "/ws"), ClientIPRule())


def sent(answer: Answer) -> tuple[str, dict[str, str], bytes]:
    first, body = answer.encode().split(b"\r\n\r\n", 1)
    start, *lines = first.decode("latin-1").split("\r\n")
    return start, dict(line.split(": ", 1) for line in lines), body


def test_an_error_is_json_and_ends_the_connection() -> None:
    start, headers, body = sent(error_answer(426, "upgrade_required", "no", {"Upgrade": "websocket"}))
    assert start == "HTTP/1.1 426 Upgrade Required"
    assert headers.pop("Date").endswith(" GMT")
    assert headers == {
        "Server": "pushserver",
        "Content-Type": "application/json; charset=utf-8",
        "Upgrade": "websocket",
        "Connection": "close",
        "Content-Length": str(len(body)),
    }
    assert body == b'{"error":{"code":"upgrade_required","message":"no"}}'


def test_a_status_that_nobody_knows_has_a_phrase_all_the_same() -> None:
    assert sent(Answer(799))[0] == "HTTP/1.1 799 Unknown"


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_neither_body_nor_type(status: int) -> None:
    ctx = context()
    ctx.header("Content-Type", "text/plain")
    ctx.abort_with_status(status)
    _, headers, body = sent(refusal(ctx, status))
    assert body == b""
    assert "Content-Type" not in headers
    assert "Content-Length" not in headers


def test_what_says_how_an_answer_is_sent_is_no_links_to_set() -> None:
    ctx = context()
    for name in ("Connection", "Content-Length", "Date", "Transfer-Encoding", "Bad Name", "Bad\r\nName"):
        ctx.header(name, "x")
    ctx.header("X-Good", "y")
    ctx.abort()
    assert refusal(ctx, 403).headers == {"X-Good": "y"}
