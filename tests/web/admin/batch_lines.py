"""Lines for batches."""

from __future__ import annotations

import json
from typing import Any


def line(message_id: str, content: Any = 1) -> bytes:
    return json.dumps({"id": message_id, "to": {"users": ["alice"]}, "content": content}).encode() + b"\n"
