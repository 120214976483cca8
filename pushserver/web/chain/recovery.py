"""Recovery: an error in a link is logged once and answered, never shown."""

from __future__ import annotations

import structlog

from pushserver.core.context import Context
from pushserver.core.errors import StoreError
from pushserver.web.chain.refuse import refuse

__all__ = ["recovery"]

log = structlog.get_logger(__name__)


async def recovery(ctx: Context) -> None:
    """gin's Recovery: run the rest; Redis' trouble becomes 503, any other error 500, both in JSON."""
    try:
        await ctx.next()
    except StoreError as error:
        refuse(ctx, 503, "unavailable", f"storage is unavailable ({error.kind})", retry_after_s=1)
    except Exception as error:
        log.exception("handshake.failed")
        ctx.error(error)
        refuse(ctx, 500, "internal", "internal error")
