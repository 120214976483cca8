"""`pushserver reconcile`: what was accepted against what became of it."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from pushserver.cli.argument_types import DAY_MS, database_url, moment, seconds
from pushserver.cli.command import Command
from pushserver.cli.table import print_table, time_text
from pushserver.config import Settings
from pushserver.core.errors import ConfigError
from pushserver.core.jsontext import dump

if TYPE_CHECKING:
    from pushserver.reconcile import Reconciled

__all__ = ["RECONCILE", "exposed_users"]

WAIT_S = 30.0


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since",
        metavar="TIME",
        type=moment,
        help="published at or after; ISO 8601, or 24h ago (the default)",
    )
    parser.add_argument(
        "--store", metavar="URL", type=database_url, help="database of exposures (consume.database_url)"
    )
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=seconds,
        default=WAIT_S,
        help="for exposures that are on their way to the database (%(default)s)",
    )
    parser.add_argument("--all", action="store_true", help="every message, not only those that differ")
    parser.add_argument("--json", action="store_true", help="as JSON, times in milliseconds since 1970")


def _reconcile(arguments: argparse.Namespace, settings: Settings) -> int:
    """1 if something differs."""
    if settings.exposure.sink == "none":
        raise ConfigError("exposure.sink", "is none: without exposures nothing can be reconciled")
    url = arguments.store or settings.consume.database_url.get_secret_value()
    since = int(time.time() * 1000) - DAY_MS if arguments.since is None else arguments.since
    found, in_stream = asyncio.run(_compare(settings, url, since, arguments.wait))
    if arguments.json:
        print(dump({"since": since, "in_stream": in_stream, **found.as_json(everything=arguments.all)}))
    else:
        _print(found, in_stream, everything=arguments.all)
    return int(bool(found.differing))


async def _compare(settings: Settings, url: str, since: int, wait_s: float) -> tuple[Reconciled, int]:
    # Only commands that look into Redis need it.
    from pushserver.backend import open_backend  # noqa: PLC0415
    from pushserver.reconcile import Reconciler  # noqa: PLC0415

    async with open_backend(settings) as backend:
        reconciler = Reconciler(backend.stores.whereabouts, lambda asked: exposed_users(url, asked))
        return await reconciler.period(since, wait_s), await backend.stores.exposures.length()


def exposed_users(url: str, messages: Mapping[str, int]) -> Mapping[str, set[str]]:
    """Whom these messages (id -> queued_at) reached, by the database of now."""
    from pushserver.database.reading import read  # noqa: PLC0415 - only these commands need SQLAlchemy

    with read(url) as reading:
        return reading.users_of(messages)


def _print(found: Reconciled, in_stream: int, *, everything: bool) -> None:
    names, rows = list(found.totals), found.balances if everything else found.differing
    if rows:
        head = ["MESSAGE", "PUBLISHED", *map(str.upper, names)]
        cells = [[one.message_id, time_text(one.queued_at), *_counts(asdict(one), names)] for one in rows]
        print_table([head, *cells])
        print()
    sums = [f"{count} {name}" for name, count in found.totals.items() if count or name == "difference"]
    print(f"{len(found.balances)} messages: {', '.join(sums)}")
    if found.differing:
        print(f"{len(found.differing)} messages differ")
    if in_stream:
        print(f"{in_stream} exposure events wait in the stream for a consumer, or for Pub/Sub")
    if found.unfinished:
        print(f"{len(found.unfinished)} publishes were not completed (nobody was told 202), and are left out")
    if found.full:
        print(f"of {found.full} users more messages have gone than are noted: differences may be theirs")


def _counts(fields: Mapping[str, object], names: list[str]) -> list[str]:
    return [str(fields[name]) for name in names]


RECONCILE = Command("compare what was accepted with what became of it", _add_arguments, _reconcile)
