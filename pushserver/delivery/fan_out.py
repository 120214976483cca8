"""One batch to many connections: noted for all of them, then written to all of them, each in one loop in C.

A broadcast touches what no cache holds, so what is touched for each connection decides what it costs: here
the connection and the list in which it notes what it was given. Whatever is more is left to `Connection`, and
what has no descriptor (over TLS), or takes other frames (compressed ones), is written to by its transport.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import repeat

from pushserver.delivery.connection import Connection
from pushserver.delivery.live_batch import NOTED_WEIGHT, LiveBatch

__all__ = ["push_to_all", "write_to_all"]


def push_to_all(
    some: Sequence[Connection], batch: LiveBatch, now: float
) -> list[tuple[Connection, float | None]]:
    """Push to these; answers those that need more than that, each with what `Connection.push_live` says."""
    room, more = NOTED_WEIGHT - batch.weight, []
    noting = [one for one in some if now < one.notes_until and len(one.noted) < room]
    try:
        if len(noting) < len(some):
            known = set(noting)
            for one in some:
                if one in known:
                    continue
                answer = one.begin_to_note(batch, now)
                if answer is not None:
                    noting.append(one)
                else:
                    answer = one.push_live(batch, now)
                if answer != 0.0:
                    more.append((one, answer))
        _note_and_write(noting, batch)
    except Exception:
        # No peer causes that. Nobody can tell any more who has it: they come back, and find it in the log.
        for one in some:
            # What is raised below is the error that counts, and none may keep another from being cut.
            with suppress(Exception):
                one.transport.abort()
        raise
    return more


def _note_and_write(noting: Sequence[Connection], batch: LiveBatch) -> None:
    # Noted first: whatever then gets in the way of one finds it in the books.
    deque(map(list.extend, [one.noted for one in noting], repeat(batch.noted)), maxlen=0)
    descriptors = [one.descriptor for one in noting]
    if -1 in descriptors:
        for one in noting:
            if one.descriptor < 0:
                one.transport.write(batch.to(one.deflates_up_to))
        noting = [one for one, descriptor in zip(noting, descriptors, strict=True) if descriptor >= 0]
        descriptors = [descriptor for descriptor in descriptors if descriptor >= 0]
    taken = write_to_all(descriptors, batch.frames)
    if taken.count(len(batch.frames)) < len(noting):
        for one, size in zip(noting, taken, strict=True):
            if size < len(batch.frames):
                one.transport.took(batch.frames, size)


def write_to_all(descriptors: Sequence[int], data: bytes) -> list[int]:
    """Write to each of these; how many bytes each took, -1 for one that is broken. None blocks."""
    taken: list[int] = []
    writes = map(os.write, descriptors, repeat(data))
    while len(taken) < len(descriptors):
        # What was written before one that fails stands in the list, and the next goes on behind it.
        try:
            taken.extend(writes)
        except BlockingIOError:
            taken.append(0)
        except OSError:
            taken.append(-1)
    return taken
