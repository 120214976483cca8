"""What development mode prints: where it is, and what to do next."""

from __future__ import annotations

from pushserver.config import Settings

__all__ = ["development_banner"]


def development_banner(settings: Settings, port: int, admin_port: int) -> str:
    """The lines to copy into another terminal. Holds no secret: tokens are made when they are needed."""
    url = f"ws://{settings.server.host}:{port}/ws"
    there = "" if port == 8000 else f" --url {url}"
    return f"""
  pushserver is up, in development mode: everything on loopback, data under .pushserver/,
  an embedded Valkey, exposure events in its stream, a development key. Not for production.

    clients     {url}
    operators   http://{settings.admin.host}:{admin_port}/readyz  /metrics  /v1/stats  /v1/users/alice

  In another terminal, in this folder:

    a token     pushserver token alice
    seed        pushserver seed alice --count 500
    connect     pushserver connect alice{there}
    look        curl -s http://{settings.admin.host}:{admin_port}/v1/users/alice
"""
