"""How a link refuses: one JSON form for all."""

from __future__ import annotations

from pushserver.core.context import Context
from pushserver.web.chain import CODE, REASON

__all__ = ["error_body", "refuse"]


def error_body(code: str, message: str, **more: str) -> dict[str, dict[str, str]]:
    """The JSON of every error: `{"error":{"code","message"}}`, and what else helps to mend it."""
    return {"error": {"code": code, "message": message, **more}}


def refuse(ctx: Context, status: int, code: str, message: str, *, retry_after_s: int = 0) -> None:
    """Abort the chain with a status, a short code and a text that quotes nothing secret."""
    if retry_after_s:
        ctx.header("Retry-After", str(retry_after_s))
    ctx.set(CODE, code)
    ctx.set(REASON, message)
    ctx.abort_with_status_json(status, error_body(code, message))
