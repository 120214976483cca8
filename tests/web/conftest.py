"""What tests of the web layer share."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from pushserver.logs import configure

LogLines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def log_lines(capsys: pytest.CaptureFixture[str]) -> Iterator[LogLines]:
    """Everything is logged as an operator sees it, as JSON; what was logged since the last call."""
    root = logging.getLogger()
    handlers, level, own = root.handlers[:], root.level, logging.getLogger("pushserver").level
    configure("debug", "json")
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("pushserver").setLevel(own)
    logging.getLogger("tornado.access").setLevel(logging.NOTSET)
    logging.captureWarnings(False)
    structlog.reset_defaults()
