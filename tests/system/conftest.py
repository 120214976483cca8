"""On which Redis the stories of this folder play."""

from __future__ import annotations

import pytest

from tests.engines.engine import Engine


@pytest.fixture(params=["redis_server", "redis_cluster"], ids=["server", "cluster"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Redis, running and empty: one server, and a cluster of three masters. A test may do anything to it."""
    found: Engine = request.getfixturevalue(request.param)
    return found
