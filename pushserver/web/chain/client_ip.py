"""Client IP: whose address this is, noted in `Context.Keys`."""

from __future__ import annotations

from pushserver.core.context import Context
from pushserver.web.chain import CLIENT_IP

__all__ = ["client_ip"]


def client_ip(ctx: Context) -> None:
    """Note the client's address by gin's rule and the settings of `proxy`."""
    ctx.set(CLIENT_IP, ctx.client_ip())
