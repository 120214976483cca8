from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError

from pushserver.stores.seal import Durability, seal_of


@pytest.mark.parametrize(
    "durability, timeout_s, command",
    [
        ("replica", 4, ("WAIT", 1, 1600)),
        ("fsync", 4, ("WAITAOF", 1, 0, 1600)),
        ("replica", 0.001, ("WAIT", 1, 1)),
    ],
)
def test_it_waits_for_less_than_half_of_a_commands_time_and_never_for_ever(
    durability: Durability, timeout_s: float, command: tuple[object, ...]
) -> None:
    seal = seal_of(durability, timeout_s)
    assert seal is not None
    assert seal.command == command


def test_no_durability_needs_no_seal() -> None:
    assert seal_of("none", 4) is None


@pytest.mark.parametrize(
    "durability, answer, holds",
    [
        ("replica", 0, False),
        ("replica", 1, True),
        ("replica", 2, True),
        ("replica", ResponseError("UNBLOCKED force unblock"), False),
        ("fsync", [0, 0], False),
        # A replica's disk is not the one that was asked for.
        ("fsync", [0, 1], False),
        ("fsync", [1, 0], True),
        ("fsync", ResponseError("ERR WAITAOF cannot be used when appendonly is disabled"), False),
    ],
)
def test_it_holds_if_as_many_have_it_as_were_asked_for(
    durability: Durability, answer: Any, holds: bool
) -> None:
    seal = seal_of(durability, 1)
    assert seal is not None
    fault = seal.broken(answer)
    assert (fault is None) == holds
    assert fault is None or fault.kind == "durability"
