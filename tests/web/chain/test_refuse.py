"""One JSON form for all refusals."""

from __future__ import annotations

from pushserver.web.chain.refuse import error_body, refuse
from tests.web.chain.contexts import context


def test_a_refusal_aborts_with_status_code_and_message() -> None:
    ctx = context()
    refuse(ctx, 429, "too_many", "too many of them")
    assert ctx.is_aborted()
    assert ctx.refusal_status == 429
    assert ctx.writer.body == b'{"error":{"code":"too_many","message":"too many of them"}}'
    assert "Retry-After" not in ctx.writer.headers


def test_a_refusal_may_tell_when_to_come_again() -> None:
    ctx = context()
    refuse(ctx, 503, "busy", "busy", retry_after_s=5)
    assert ctx.writer.headers["Retry-After"] == "5"


def test_an_error_is_a_code_and_a_message() -> None:
    assert error_body("code", "message") == {"error": {"code": "code", "message": "message"}}
