"""`pushserver seed`: offline messages, for testing."""

from __future__ import annotations

import argparse
import sys

from pushserver.cli.argument_types import positive, username
from pushserver.cli.command import Command
from pushserver.config import Settings

__all__ = ["SEED"]


def _add_seed_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("users", metavar="USER", type=username, nargs="+", help="for whom")
    parser.add_argument("--count", metavar="N", type=positive, default=10, help="messages for each (10)")
    parser.add_argument(
        "--text", default="message {number}", help="what they say; {number} and {user} are filled in"
    )
    parser.add_argument("--ttl", metavar="SECONDS", type=positive, help="how long they live (content.ttl_s)")


def _seed(arguments: argparse.Namespace, settings: Settings) -> int:
    from pushserver.seed import Seeds, seed  # noqa: PLC0415

    ttl_s = min(arguments.ttl or settings.content.ttl_s, settings.content.max_ttl_s)
    evicted = seed(settings, Seeds(arguments.users, arguments.count, arguments.text, ttl_s))
    if evicted:
        print(f"pushserver: {evicted} older messages were evicted (inbox.cap)", file=sys.stderr)
    return 0


SEED = Command("put messages into inboxes, for testing", _add_seed_arguments, _seed)
