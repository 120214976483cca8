"""`pushserver connect`: a client in the terminal."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from pushserver.cli.argument_types import positive, token_text, username, websocket_url
from pushserver.cli.command import Command
from pushserver.cli.display import Display
from pushserver.cli.token import make_token
from pushserver.config import Settings
from pushserver.core.errors import NotConnectedError

if TYPE_CHECKING:
    from pushserver.client import Client

__all__ = ["CONNECT", "show"]

CONNECT_TOKEN_TTL_S = 3600


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
    from pushserver.client import Client  # noqa: PLC0415

    def new_token() -> str:
        return make_token(settings, arguments.user, CONNECT_TOKEN_TTL_S, {})

    display = Display(lambda line: print(line, flush=True))
    client = Client(arguments.url, arguments.token or new_token, ack=arguments.ack, watch=display.event)
    try:
        return asyncio.run(show(client, display, arguments.count))
    except KeyboardInterrupt:
        # The usual way to leave, unless something was waited for.
        return 0 if arguments.count is None else 1


async def show(client: Client, display: Display, count: int | None) -> int:
    """Show what comes until there is an end, or `count` messages were shown (None: no end).

    Answers an exit code: 0 after `count`, or if the server closed with 1000, else 1. Raises what the
    display raises. Cancelling closes the connection in order.
    """
    left = count
    try:
        async with client:
            async for message in client:
                display.message(message)
                left = left and left - 1
                if left == 0:
                    return 0
    except NotConnectedError:
        # Shown already, by the events.
        return 1
    return 0


CONNECT = Command("show a user's messages in the terminal, as they come", _add_connect_arguments, _connect)
