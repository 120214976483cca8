from __future__ import annotations

import pytest

from pushserver.exposure.null_sink import NullSink
from tests.exposure.examples import some_events


@pytest.mark.gen_test
async def test_it_accepts_everything() -> None:
    sink = NullSink()
    await sink.start()
    await sink.publish(some_events(3))
    await sink.close()
