"""A chain on its own: a context, its links, and what came of them."""

from __future__ import annotations

import json
from typing import Any

from pushserver.core.client_ip import ClientIPRule
from pushserver.core.context import Context, Handler
from pushserver.core.request import HttpRequest
from pushserver.web.chain import CREDENTIALS
from pushserver.web.credentials import Credentials, TokenSource

__all__ = ["answer", "context", "credentials", "run"]


def context(*links: Handler | None, keys: dict[Any, Any] | None = None, **request: Any) -> Context:
    """A context for a handshake whose request has these fields; `keys` are what earlier links noted."""
    rule = ClientIPRule(request.pop("trusted", ()))
    fields: dict[str, Any] = {"peer": "192.0.2.1", "host": "push.example", **request}
    ctx = Context(HttpRequest("GET", "/ws", **fields), rule, links, full_path="/ws")
    ctx.keys.update(keys or {})
    return ctx


async def run(*links: Handler | None, keys: dict[Any, Any] | None = None, **request: Any) -> Context:
    """The context after the chain."""
    ctx = context(*links, keys=keys, **request)
    await ctx.next()
    return ctx


def answer(ctx: Context) -> tuple[int | None, str]:
    """Status and code of the refusal; (None, "") if there is none."""
    if ctx.refusal_status is None:
        return None, ""
    return ctx.refusal_status, json.loads(ctx.writer.body)["error"]["code"] if ctx.writer.body else ""


def credentials(token: str | None = None, *, offered: bool = False) -> dict[Any, Any]:
    """Keys as the origin link leaves them."""
    return {CREDENTIALS: Credentials(token, TokenSource.HEADER if token else None, None, offered)}
