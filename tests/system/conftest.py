"""On which Redis the stories of this folder play: each on a cluster, and most on one server, too.

TEST_REDIS=server pytest tests/system       # all of them on that one; server,cluster: on each
"""

from __future__ import annotations

import os

import pytest

from tests.engines.engine import Engine

FIXTURES = {"server": "redis_server", "cluster": "redis_cluster"}
ASKED_FOR = [name for name in os.environ.get("TEST_REDIS", "").split(",") if name]


@pytest.fixture(params=ASKED_FOR or ["server", "cluster"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Redis, running and empty: one server, and a cluster of three masters. A test may do anything to it."""
    return _engine(request)


@pytest.fixture(params=ASKED_FOR or ["cluster"])
def any_engine(request: pytest.FixtureRequest) -> Engine:
    """As `engine`, for what does not depend on it: by default only the cluster, to save time."""
    return _engine(request)


def _engine(request: pytest.FixtureRequest) -> Engine:
    found: Engine = request.getfixturevalue(FIXTURES[request.param])
    return found
