"""10 000 messages that wait for one user: all arrive, in order, once, and cost bounded memory."""

from __future__ import annotations

import pytest

from tests.engines.engine import Engine
from tests.pod import eventually
from tests.system.stage import stage

pytestmark = pytest.mark.system

COUNT = 10_000
GROWTH_KIB = 8 * 1024
"""What the pod may grow by: 1 MiB of cache, a window, a page of ids at a time, and the allocator's slack."""


@pytest.mark.gen_test(timeout=90)
async def test_10000_waiting_messages_arrive_in_order_once_in_bounded_memory(
    any_engine: Engine,
) -> None:
    """Kept whole they would be 5 MB of text and four times that as objects; the pod reads page by page."""
    content = {"cache_bytes": 1024 * 1024}
    async with stage(any_engine, content=content, inbox={"cap": COUNT}) as on:
        pod = await on.pods.start("pod-1")
        bystander = await on.bystander(pod)
        # Once before, so that what every first catch-up brings into memory is there.
        on.backend.put_many("first", 1000, "x" * 500)
        await on.reads_all(pod, "first")
        ids = on.backend.put_many("alice", COUNT, "x" * 500)
        assert len(on.inbox("alice")) == COUNT
        before = pod.figures("VmHWM")
        listener = await on.listen(pod, "alice")
        await eventually(lambda: listener.live, 30)
        assert listener.live is not None
        assert listener.live["delivered"] == COUNT
        assert listener.ids == ids
        await on.settled("alice")
        assert pod.figures("VmHWM") - before < GROWTH_KIB
        await listener.leave(quiet=True)
        await bystander.was_unharmed()
