"""The program: its commands, their arguments and their exit codes.

0: done. 2: wrong arguments or settings. 1: anything else.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple
from urllib.parse import urlsplit

from pushserver import __version__, logs
from pushserver.config import Settings
from pushserver.config_load import load
from pushserver.config_text import as_toml
from pushserver.core.categories import Categories, parse_categories
from pushserver.core.errors import ConfigError, InvalidNameError, PushServerError
from pushserver.core.names import check_username
from pushserver.development import token_secret

__all__ = ["COMMANDS", "Command", "main"]

CONNECT_TOKEN_TTL_S = 3600
# Before the server's `live` frame says otherwise.
RETRY_MIN_S, RETRY_MAX_S = 0.5, 20

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


class Command(NamedTuple):
    """A command of the program. `run` answers the exit code; every command also takes settings."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Settings], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and answer its exit code; `argv` is None for the process's own arguments.

    Raises `SystemExit` for wrong arguments (2), `--help` and `--version` (0).
    """
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without characters for what a message says gets their escapes.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        settings = load(arguments.config, arguments.set, os.environ)
    except ExceptionGroup as problems:
        return _complain(2, *problems.exceptions)
    logs.configure(settings.logging.level, settings.logging.format)
    try:
        code = COMMANDS[arguments.command].run(arguments, settings)
        sys.stdout.flush()
    except (ConfigError, InvalidNameError) as error:
        return _complain(2, error)
    except PushServerError as error:
        return _complain(1, error)
    except KeyboardInterrupt:
        return 1
    except BrokenPipeError:
        # Whoever read us has gone. The interpreter would try to flush, and complain, once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _complain(code: int, *errors: Exception) -> int:
    for error in errors:
        print(f"pushserver: {logs.printable(str(error))}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("pushserver", description="A WebSocket push server.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"pushserver {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help, allow_abbrev=False)
        command.add_arguments(sub)
        settings = sub.add_argument_group("settings")
        settings.add_argument(
            "--config", metavar="FILE", default="", help="TOML file (or the environment's PUSHSERVER_CONFIG)"
        )
        settings.add_argument(
            "--set",
            metavar="SECTION.NAME=VALUE",
            action="append",
            default=[],
            help="one setting, before the environment and the file; a list as JSON",
        )
    return parser


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes settings only."""


def _check_config(arguments: argparse.Namespace, settings: Settings) -> int:
    _check_parts(settings)
    print(as_toml(settings))
    return 0


def _check_parts(settings: Settings) -> None:
    """Build what looks closer at its settings than their types do. Raises `ConfigError`."""
    # Only this command needs them before the server starts, and they bring cryptography along.
    from pushserver.web.origins import OriginPolicy  # noqa: PLC0415
    from pushserver.web.tokens import load_keys  # noqa: PLC0415

    auth = settings.auth
    secret = auth.secret.get_secret_value().encode()
    if settings.development and "HS256" in auth.algorithms:
        # The server makes one; a check writes no file.
        secret = secret or bytes(32)
    load_keys(
        auth.algorithms,
        secret=secret,
        previous_secret=auth.previous_secret.get_secret_value().encode(),
        public_key_file=auth.public_key_file,
    )
    OriginPolicy(settings.origin.allow)


def _add_token_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", type=_username, help="who the token is for")
    parser.add_argument(
        "--ttl", metavar="SECONDS", type=_positive, default=3600, help="how long it is valid (3600)"
    )
    parser.add_argument(
        "--category",
        metavar="KIND=VALUE",
        type=_category,
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
    print(_make_token(settings, arguments.user, arguments.ttl, parse_categories(values)))
    return 0


def _make_token(settings: Settings, user: str, ttl_s: int, categories: Categories) -> str:
    # Only here, for it brings cryptography along.
    from pushserver.web.tokens import make_token  # noqa: PLC0415

    for name in ("issuer", "audience"):
        if getattr(settings.auth, name):
            raise ConfigError(f"auth.{name}", "is set, and tokens made here name none: use your issuer's")
    claims = {kind: list(values) for kind, values in categories.items()} or None
    return make_token(token_secret(settings).encode(), user, ttl_s, time.time(), claims)


def _add_connect_arguments(parser: argparse.ArgumentParser) -> None:
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("user", metavar="USER", type=_username, nargs="?", help="whom to make a token for")
    who.add_argument("--token", metavar="TOKEN", type=_token_text, help="a token that you have")
    parser.add_argument(
        "--url", type=_websocket_url, default="ws://127.0.0.1:8000/ws", help="server (%(default)s)"
    )
    parser.add_argument("--count", metavar="N", type=_positive, help="leave after N messages")
    parser.add_argument(
        "--ack", action="store_true", help="confirm by ack frames (pushserver.v1.ack) instead of pongs"
    )


def _connect(arguments: argparse.Namespace, settings: Settings) -> int:
    # Only this command needs Tornado's client.
    from pushserver.web.backoff import Backoff  # noqa: PLC0415
    from pushserver.web.client import TerminalClient  # noqa: PLC0415
    from pushserver.web.client_display import Display  # noqa: PLC0415

    def make_token() -> str:
        given: str | None = arguments.token
        return given or _make_token(settings, arguments.user, CONNECT_TOKEN_TTL_S, {})

    client = TerminalClient(
        arguments.url,
        make_token,
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


def _serve(arguments: argparse.Namespace, settings: Settings) -> int:
    # Only this command and `seed` need the server and Redis.
    from pushserver.server import run  # noqa: PLC0415

    return run(settings)


def _add_seed_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("users", metavar="USER", type=_username, nargs="+", help="for whom")
    parser.add_argument("--count", metavar="N", type=_positive, default=10, help="messages for each (10)")
    parser.add_argument(
        "--text", default="message {number}", help="what they say; {number} and {user} are filled in"
    )
    parser.add_argument("--ttl", metavar="SECONDS", type=_positive, help="how long they live (content.ttl_s)")


def _seed(arguments: argparse.Namespace, settings: Settings) -> int:
    from pushserver.seed import Seeds, seed  # noqa: PLC0415

    ttl_s = min(arguments.ttl or settings.content.ttl_s, settings.content.max_ttl_s)
    evicted = seed(settings, Seeds(arguments.users, arguments.count, arguments.text, ttl_s))
    if evicted:
        print(f"pushserver: {evicted} older messages were evicted (inbox.cap)", file=sys.stderr)
    return 0


def _username(text: str) -> str:
    try:
        return check_username(text)
    except InvalidNameError as error:
        raise argparse.ArgumentTypeError(error.reason) from None


def _category(text: str) -> tuple[str, str]:
    kind, _, value = text.partition("=")
    try:
        parse_categories({kind: value})
    except InvalidNameError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return kind, value


def _positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not int(text):
        raise argparse.ArgumentTypeError("must be a number from 1 to 999999999")
    return int(text)


def _token_text(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise argparse.ArgumentTypeError("has characters that no token has")
    return text


def _websocket_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        if parts.scheme in {"ws", "wss"} and parts.hostname and parts.port != 0 and text.isprintable():
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("must be ws://HOST[:PORT]/PATH or wss://...")


COMMANDS = {
    "serve": Command("run a pod", _no_arguments, _serve),
    "seed": Command("put messages into inboxes, for testing", _add_seed_arguments, _seed),
    "connect": Command(
        "show a user's messages in the terminal, as they come", _add_connect_arguments, _connect
    ),
    "token": Command("print a token for development, signed with HS256", _add_token_arguments, _token),
    "check-config": Command("check every setting and print what is in effect", _no_arguments, _check_config),
}
"""The commands by name, in the order of `--help`."""
