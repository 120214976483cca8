"""A client of a whole pod is closed with what RFC 6455 says, and answered, however its bytes come in."""

from __future__ import annotations

import asyncio
from itertools import cycle

import pytest

from pushserver.core.frames import Binary, Close, Ping
from tests.client import CLOSE, PONG, TEXT, Client
from tests.core.client_frames import pieces
from tests.core.conformance import CASES, Case
from tests.pod import eventually
from tests.web.doorway import Doorway, doorway

ENDING = [
    case
    for case in CASES
    if (case.code is not None or (case.events and isinstance(case.events[-1], Close)))
    # Those are a 1003 before anything else is.
    and not any(isinstance(event, Binary) for event in case.events)
    # Who goes on behind a goodbye may be reset, and hears no answer.
    and not case.name.startswith("7.1 ")
]
ECHOED = {1000, 1001, 1002, 1003, 1007, 1009, 1012}
"""Close codes that have a meaning here as well; any other is answered by a 1000."""


def answer_to(case: Case) -> int:
    if case.code is not None:
        return case.code
    code = case.events[-1].code  # type: ignore[union-attr] # it is a close
    return code if code in ECHOED else 1000


async def said(client: Client) -> tuple[list[bytes], int]:
    """The pongs that a client got, and the close code behind them."""
    pongs = []
    while True:
        opcode, payload = await client._read_frame()
        if opcode == PONG:
            pongs.append(payload)
        elif opcode == CLOSE:
            return pongs, int.from_bytes(payload[:2])
        else:
            assert opcode == TEXT, "a refusal of what was no request"


async def hostile(door: Doorway, cases: list[Case], size: int) -> None:
    """One after the other, each on a connection of its own, in pieces of `size` bytes."""
    for case in cases:
        client = await door.connect("hostile")
        step = max(size, len(case.data) // 20)
        for piece in pieces(case.data, range(step, len(case.data), step)):
            await client.send_bytes(piece)
            await asyncio.sleep(0)
        pongs = [event.payload for event in case.events if isinstance(event, Ping)]
        assert await said(client) == (pongs, answer_to(case)), case.name
        client.vanish()


@pytest.mark.gen_test
async def test_every_connection_ends_as_its_case_has_it() -> None:
    assert len(ENDING) > 300
    shares: list[list[Case]] = [[] for _ in range(8)]
    for share, case in zip(cycle(shares), ENDING, strict=False):
        share.append(case)
    limits = {"connections_per_user": 10**6, "handshakes_per_s": 0, "frames_per_s": 10**6}
    async with doorway(limits=limits) as door:
        async with asyncio.TaskGroup() as clients:
            for at, share in enumerate(shares):
                clients.create_task(hostile(door, share, 1 + 2 * at))
        await eventually(lambda: door.inside == 0)
