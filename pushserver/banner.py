"""What development mode prints: where it is, and what to do next."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from pushserver.config import Settings
from pushserver.development import token_secret
from pushserver.web.tokens import make_token

__all__ = ["development_banner"]

TOKEN_TTL_S = 24 * 3600
CONNECT_URL = "ws://127.0.0.1:8000/ws"
"""Where `pushserver connect` goes by itself."""


def development_banner(settings: Settings, port: int, admin_port: int) -> str:
    """The lines to copy into another terminal; with a token that is good for a day, if this pod signs any."""
    secure = "s" if settings.server.certfile else ""
    place = f"{_in_url(settings.server.host)}:{port}"
    url = f"ws{secure}://{place}/ws"
    admin = f"http://{_in_url(settings.admin.host)}:{admin_port}"
    program = _program()
    elsewhere = "" if url == CONNECT_URL else f" --url {url}"
    sink = {"stream": "in its stream", "pubsub": "to Pub/Sub", "none": "nowhere"}[settings.exposure.sink]
    return f"""
  pushserver is up, in development mode: everything on loopback, data under .pushserver/, an embedded
  Valkey, exposure events {sink}, a development key. Not for production.

    browser     http{secure}://{place}/demo  (connect, send, watch)
    clients     {url}
    operators   {admin}  (/readyz /metrics /v1/stats /v1/users/alice)
    dashboard   {admin}/dashboard
{_token_lines(settings, program)}
  In another terminal, in this folder:

    seed        {program} seed alice --count 500
    connect     {program} connect alice{elsewhere}
    publish     {program} publish --to-user alice --text hello
    look        curl -s {admin}/v1/users/alice
                curl -s {admin}/metrics | grep pushserver_exposures_total

  Ctrl-C ends it; what waits is kept.
"""


def _token_lines(settings: Settings, program: str) -> str:
    if "HS256" not in settings.auth.algorithms:
        return ""  # they are made by whoever holds the private key
    token = make_token(token_secret(settings).encode(), "alice", TOKEN_TTL_S, time.time())
    return f"""    a token     {token}
                (alice's, for a day; others: {program} token USER)
"""


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _program() -> str:
    """How this program was called, from here."""
    called = Path(sys.argv[0])
    if called.name != "pushserver":
        return "pushserver"
    relative = os.path.relpath(called)
    return relative if not relative.startswith("..") else "pushserver"
