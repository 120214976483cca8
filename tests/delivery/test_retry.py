"""Trying again while Redis is away."""

from __future__ import annotations

import asyncio
import time

import pytest

from pushserver.core.errors import StoreRefusedError, StoreUnavailableError
from pushserver.delivery.retry import until_stored, when_redis_answers


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made, in seconds."""
    made: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        made.append(seconds)
        await sleep(0)

    monkeypatch.setattr("pushserver.delivery.retry.asyncio.sleep", pause)
    return made


class Call:
    """Fails with each error in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.tries = 0

    async def __call__(self) -> str:
        self.tries += 1
        if self._errors:
            raise self._errors.pop(0)
        return "answer"


@pytest.mark.gen_test
async def test_the_first_answer_is_the_answer(pauses: list[float]) -> None:
    assert await until_stored(Call(), lambda: True) == "answer"
    assert pauses == []


@pytest.mark.gen_test
async def test_whatever_redis_did_not_do_is_tried_again(pauses: list[float]) -> None:
    call = Call(StoreUnavailableError("timeout", ""), StoreRefusedError("oom", ""))
    assert await until_stored(call, lambda: True) == "answer"
    assert call.tries == 3
    assert len(pauses) == 2


@pytest.mark.gen_test
async def test_pauses_grow_to_two_seconds_with_jitter(pauses: list[float]) -> None:
    await until_stored(Call(*[StoreUnavailableError("away", "")] * 20), lambda: True)
    full = [min(2.0, 0.1 * 2**number) for number in range(20)]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, full, strict=True))
    assert len(set(pauses)) == 20


@pytest.mark.gen_test
async def test_what_is_not_wanted_any_more_is_not_tried(pauses: list[float]) -> None:
    call, wanted = Call(*[StoreUnavailableError("away", "")] * 20), [True, True, True, False]
    assert await until_stored(call, lambda: wanted.pop(0)) is None
    assert call.tries == 3


@pytest.mark.gen_test
async def test_another_error_is_the_callers() -> None:
    with pytest.raises(LookupError):
        await until_stored(Call(LookupError()), lambda: True)


async def start(*errors: Exception, give_up_in_s: float = 60.0) -> int:
    """How often it was tried until it was carried out."""
    step = Call(*errors)

    async def carry_out() -> None:
        await step()

    await when_redis_answers(carry_out, time.monotonic() + give_up_in_s)
    return step.tries


@pytest.mark.parametrize("kind", ["loading", "readonly", "cluster_down", "misconf", "noreplicas", "oom"])
@pytest.mark.gen_test
async def test_a_start_waits_for_what_passes(pauses: list[float], kind: str) -> None:
    assert await start(StoreRefusedError(kind, ""), StoreUnavailableError("connection", "")) == 3
    assert len(pauses) == 1


@pytest.mark.parametrize("kind", ["auth", "error"])
@pytest.mark.gen_test
async def test_a_start_ends_with_what_no_waiting_heals(pauses: list[float], kind: str) -> None:
    """At once, or as soon as Redis answers that."""
    refused = StoreRefusedError(kind, "for good")
    with pytest.raises(StoreRefusedError, match="for good"):
        await start(refused)
    assert pauses == []
    with pytest.raises(StoreRefusedError, match="for good"):
        await start(*[StoreUnavailableError("connection", "")] * 3, refused)
    assert len(pauses) == 2


@pytest.mark.gen_test
async def test_a_start_that_waited_long_enough_ends_with_the_reason() -> None:
    with pytest.raises(StoreUnavailableError, match="away"):
        await start(*[StoreUnavailableError("away", "")] * 9, give_up_in_s=0)
