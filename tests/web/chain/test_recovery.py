"""An error in a link is logged once and answered, never shown."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from pushserver.core.context import Context
from pushserver.core.errors import StoreRefusedError, StoreUnavailableError
from pushserver.web.chain.recovery import recovery
from tests.web.chain.contexts import answer, run

SECRET = "what only the log may know"


def fail(ctx: Context) -> None:
    raise RuntimeError(SECRET)


async def fail_later(ctx: Context) -> None:
    raise RuntimeError(SECRET)


@pytest.mark.gen_test
@pytest.mark.parametrize("link", [fail, fail_later])
async def test_an_error_is_500_logged_once_and_noted_in_the_context(link: object) -> None:
    reached: list[Context] = []
    with capture_logs() as lines:
        ctx = await run(recovery, link, reached.append)  # type: ignore[arg-type]
    assert answer(ctx) == (500, "internal")
    assert SECRET.encode() not in ctx.writer.body
    assert [str(entry.err) for entry in ctx.errors] == [SECRET]
    assert [(line["event"], line["log_level"]) for line in lines] == [("handshake.failed", "error")]
    assert not reached, "the links behind the failed one must not run"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "error", [StoreUnavailableError("timeout", SECRET), StoreRefusedError("oom", SECRET)]
)
async def test_redis_trouble_is_503_with_its_class_and_no_line_of_the_log(error: Exception) -> None:
    """An outage would otherwise write a line for every client that comes back."""

    def fail_in_redis(ctx: Context) -> None:
        raise error

    with capture_logs() as lines:
        ctx = await run(recovery, fail_in_redis)
    assert answer(ctx) == (503, "unavailable")
    assert ctx.writer.headers["Retry-After"] == "1"
    assert error.kind.encode() in ctx.writer.body  # type: ignore[attr-defined]
    assert SECRET.encode() not in ctx.writer.body
    assert lines == []


@pytest.mark.gen_test
async def test_a_chain_without_an_error_goes_through() -> None:
    seen: list[Context] = []
    ctx = await run(recovery, seen.append)
    assert seen == [ctx]
    assert answer(ctx) == (None, "")


@pytest.mark.gen_test
async def test_an_error_after_a_refusal_leaves_the_refusal_as_it_is() -> None:
    def refuse_and_fail(ctx: Context) -> None:
        ctx.abort_with_status_json(403, {"error": {"code": "mine", "message": ""}})
        raise RuntimeError(SECRET)

    with capture_logs():
        assert answer(await run(recovery, refuse_and_fail)) == (403, "mine")
