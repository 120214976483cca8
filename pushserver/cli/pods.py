"""`pushserver pods`: the cluster."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from pushserver.cli.command import Command
from pushserver.cli.table import print_table, time_text
from pushserver.config import Settings
from pushserver.core.jsontext import dump
from pushserver.logs import printable

__all__ = ["PODS"]

_COLUMNS = ("pod", "boot", "host", "address", "version", "started", "expires", "alive")
_TIMES = {"started", "expires"}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON, times in milliseconds since 1970")


def _pods(arguments: argparse.Namespace, settings: Settings) -> int:
    pods = asyncio.run(_read(settings))
    if arguments.json:
        print(dump(pods))
    else:
        _print_table(pods)
    return 0


async def _read(settings: Settings) -> list[dict[str, Any]]:
    # Only commands that look into Redis need it.
    from pushserver.backend import open_backend  # noqa: PLC0415

    async with open_backend(settings) as backend:
        return await backend.users.pods()


def _print_table(pods: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        [name.upper() for name in _COLUMNS],
        *([_cell(name, pod.get(name)) for name in _COLUMNS] for pod in pods),
    ]
    print_table(rows)


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in _TIMES:
        return time_text(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    # What another pod wrote about itself must not move this terminal.
    return printable(str(value))


PODS = Command("list the pods of the cluster, with what they told about themselves", _add_arguments, _pods)
