"""The program: its commands and their exit codes; a file for each command.

0: done. 2: wrong arguments or settings. 1: anything else.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence

from pushserver import __version__, logs
from pushserver.cli.command import Command
from pushserver.cli.connect import CONNECT
from pushserver.cli.consume import CONSUME
from pushserver.cli.explain import EXPLAIN
from pushserver.cli.exposures import EXPOSURES
from pushserver.cli.pods import PODS
from pushserver.cli.publish import PUBLISH
from pushserver.cli.reconcile import RECONCILE
from pushserver.cli.seed import SEED
from pushserver.cli.serve import CHECK_CONFIG, SERVE
from pushserver.cli.token import TOKEN
from pushserver.config_load import load
from pushserver.core.errors import ConfigError, InvalidFieldError, InvalidNameError, PushServerError

__all__ = ["COMMANDS", "Command", "main"]


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
    if os.getpid() == 1:
        # The kernel spares process 1 of a container every signal it has no handler for: a start that still
        # waits for Redis would take no notice of a SIGTERM.
        signal.signal(signal.SIGTERM, _terminated)
    try:
        code = COMMANDS[arguments.command].run(arguments, settings)
        sys.stdout.flush()
    except (ConfigError, InvalidFieldError, InvalidNameError) as error:
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


def _terminated(number: int, frame: object) -> None:
    sys.exit(128 + number)


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


COMMANDS = {
    "serve": SERVE,
    "publish": PUBLISH,
    "seed": SEED,
    "connect": CONNECT,
    "token": TOKEN,
    "pods": PODS,
    "consume": CONSUME,
    "exposures": EXPOSURES,
    "reconcile": RECONCILE,
    "explain": EXPLAIN,
    "check-config": CHECK_CONFIG,
}
"""The commands by name, in the order of `--help`."""
