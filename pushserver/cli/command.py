"""What a command of the program is."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

from pushserver.config import Settings

__all__ = ["Command", "no_arguments"]


class Command(NamedTuple):
    """A command of the program. `run` answers the exit code; every command also takes settings."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Settings], int]


def no_arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes settings only."""
