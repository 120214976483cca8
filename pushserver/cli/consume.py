"""`pushserver consume`: exposure events become rows."""

from __future__ import annotations

import argparse

from pushserver.cli.command import Command, no_arguments
from pushserver.config import Settings

__all__ = ["CONSUME"]


def _consume(arguments: argparse.Namespace, settings: Settings) -> int:
    # Only this command needs the listener, the source and the database.
    from pushserver.consume import run  # noqa: PLC0415

    return run(settings)


CONSUME = Command("keep exposure events in a database", no_arguments, _consume)
