"""`pushserver connect`: a client in the terminal."""

from __future__ import annotations

import argparse
import asyncio
from random import Random

from pushserver.cli.argument_types import positive, token_text, username, websocket_url
from pushserver.cli.command import Command
from pushserver.cli.token import make_token
from pushserver.config import Settings

__all__ = ["CONNECT"]

CONNECT_TOKEN_TTL_S = 3600
# Before the server's `live` frame says otherwise.
RETRY_MIN_S, RETRY_MAX_S = 0.5, 20


def _add_connect_arguments(parser: argparse.ArgumentParser) -> None:
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("user", metavar="USER", type=username, nargs="?", help="whom to make a token for")
    who.add_argument("--token", metavar="TOKEN", type=token_text, help="a token that you have")
    parser.add_argument(
        "--url", type=websocket_url, default="ws://127.0.0.1:8000/ws", help="server (%(default)s)"
    )
    parser.add_argument("--count", metavar="N", type=positive, help="leave after N messages")
    parser.add_argument(
        "--ack", action="store_true", help="confirm by ack frames (pushserver.v1.ack) instead of pongs"
    )


def _connect(arguments: argparse.Namespace, settings: Settings) -> int:
    # Only this command needs Tornado's client.
    from pushserver.web.backoff import Backoff  # noqa: PLC0415
    from pushserver.web.client import TerminalClient  # noqa: PLC0415
    from pushserver.web.client_display import Display  # noqa: PLC0415

    def one_token() -> str:
        given: str | None = arguments.token
        return given or make_token(settings, arguments.user, CONNECT_TOKEN_TTL_S, {})

    client = TerminalClient(
        arguments.url,
        one_token,
        Display(lambda line: print(line, flush=True), arguments.count),
        Backoff(RETRY_MIN_S, RETRY_MAX_S, Random()),  # noqa: S311 - spreads clients, guards nothing
        renewable=arguments.token is None,
        ack=arguments.ack,
    )
    try:
        return asyncio.run(client.run())
    except KeyboardInterrupt:
        # The usual way to leave, unless something was waited for.
        return 0 if arguments.count is None else 1


CONNECT = Command("show a user's messages in the terminal, as they come", _add_connect_arguments, _connect)
