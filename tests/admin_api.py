"""What a back end asks of a pod's admin listener."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.pod_process import PodProcess
from tests.raw_http import Answer, ask

__all__ = ["call", "send", "waiting"]


async def call(pod: PodProcess, method: str, path: str, body: Any = None) -> Answer:
    """One call, with a JSON body if there is any."""
    text = b"" if body is None else json.dumps(body).encode()
    headers = [("Host", f"127.0.0.1:{pod.admin_port}"), ("Content-Length", str(len(text)))]
    headers += [("Content-Type", "application/json"), ("Connection", "close")]
    return await ask(pod.admin_port, headers, method=method, path=path, body=text)


async def send(pod: PodProcess, user: str, content: Any, **more: Any) -> str:
    """Publish to one user; the id. Fails unless it was accepted."""
    request: Mapping[str, Any] = {"to": {"users": [user]}, "content": content, **more}
    answer = await call(pod, "POST", "/v1/messages", request)
    assert answer.status == 202, answer
    message_id: str = answer.json["id"]
    return message_id


async def waiting(pod: PodProcess, user: str) -> int:
    """How many messages of the user are not settled."""
    count: int = (await call(pod, "GET", f"/v1/users/{user}")).json["inbox"]["waiting"]
    return count
