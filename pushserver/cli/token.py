"""`pushserver token`: a token for development."""

from __future__ import annotations

import argparse
import sys

from pushserver.cli.argument_types import category, positive, username
from pushserver.cli.command import Command
from pushserver.config import Settings
from pushserver.core.categories import Categories, parse_categories

__all__ = ["TOKEN", "make_token"]


def _add_token_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", type=username, help="who the token is for")
    parser.add_argument(
        "--ttl", metavar="SECONDS", type=positive, default=3600, help="how long it is valid (3600)"
    )
    parser.add_argument(
        "--category",
        metavar="KIND=VALUE",
        type=category,
        action="append",
        default=[],
        help="a category in the token's claims; may be repeated",
    )


def _token(arguments: argparse.Namespace, settings: Settings) -> int:
    values: dict[str, list[str]] = {}
    for kind, value in arguments.category:
        values.setdefault(kind, []).append(value)
    if values and settings.categories.source != "claims":
        print("pushserver: the server reads no claims unless categories.source is claims", file=sys.stderr)
    print(make_token(settings, arguments.user, arguments.ttl, parse_categories(values)))
    return 0


def make_token(settings: Settings, user: str, ttl_s: int, categories: Categories) -> str:
    """A token that the server believes, signed with HS256. Raises `ConfigError`."""
    # Only here, for it brings cryptography along.
    from pushserver.web.development_token import development_token  # noqa: PLC0415

    return development_token(settings, user, ttl_s, categories)


TOKEN = Command("print a token for development, signed with HS256", _add_token_arguments, _token)
