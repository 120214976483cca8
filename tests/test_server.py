"""What the process says of errors that nobody awaited."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from pushserver.server import tell_stray


async def told(future: asyncio.Future[Any], caplog: pytest.LogCaptureFixture) -> tuple[list[str], list[str]]:
    """The events of our own and the lines of asyncio for a future whose error nobody saw."""
    loop = asyncio.get_running_loop()
    with capture_logs() as ours:
        tell_stray(loop, {"message": "never retrieved", "exception": future.exception(), "future": future})
    theirs = [record.message for record in caplog.records if record.name == "asyncio"]
    return [line["event"] for line in ours], theirs


@pytest.mark.gen_test
async def test_the_end_of_a_connection_that_nobody_awaited_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(BrokenPipeError(32, "Broken pipe"))
    assert await told(future, caplog) == (["connection.stray_error"], [])


@pytest.mark.gen_test
async def test_any_other_error_that_nobody_awaited_is_reported_by_asyncio(
    caplog: pytest.LogCaptureFixture,
) -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(ValueError("a fault of the program"))
    assert await told(future, caplog) == ([], ["never retrieved\nfuture: " + repr(future)])


@pytest.mark.gen_test
async def test_a_task_of_ours_that_broke_is_reported_by_asyncio(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks() -> None:
        raise ConnectionResetError

    task = asyncio.ensure_future(breaks())
    await asyncio.wait([task])
    ours, theirs = await told(task, caplog)
    assert (ours, len(theirs)) == ([], 1)
