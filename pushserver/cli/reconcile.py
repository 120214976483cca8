"""`pushserver reconcile`: what was accepted against what became of it."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from pushserver.cli.argument_types import DAY_MS, database_url, moment, seconds
from pushserver.cli.command import Command
from pushserver.cli.table import print_table, time_text
from pushserver.config import Settings
from pushserver.core.counting import counted, some_of
from pushserver.core.errors import ConfigError
from pushserver.core.jsontext import dump
from pushserver.logs import printable

if TYPE_CHECKING:
    from pushserver.reconcile import Reconciled

__all__ = ["RECONCILE", "exposed_users"]

WAIT_S = 30.0
ROWS = 20
"""Messages that are shown one by one of those that differ; `--json` has all."""


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
    """1 if something differs, or Redis does not know what was exposed."""
    if settings.exposure.sink == "none":
        raise ConfigError("exposure.sink", "is none: without exposures nothing can be reconciled")
    url = arguments.store or settings.consume.database_url.get_secret_value()
    since = int(time.time() * 1000) - DAY_MS if arguments.since is None else arguments.since
    if arguments.wait and sys.stderr.isatty():
        print(f"waiting up to {arguments.wait:g} s for exposures that are on their way", file=sys.stderr)
    found, in_stream = asyncio.run(_compare(settings, url, since, arguments.wait))
    if arguments.json:
        print(dump({"since": since, "in_stream": in_stream, **found.as_json(everything=arguments.all)}))
    else:
        _print(found, in_stream, everything=arguments.all)
    return int(not found.adds_up)


async def _compare(settings: Settings, url: str, since: int, wait_s: float) -> tuple[Reconciled, int]:
    # Only commands that look into Redis need it.
    from pushserver.backend import open_backend  # noqa: PLC0415
    from pushserver.reconcile import Kept, Reconciler  # noqa: PLC0415

    async with open_backend(settings) as backend:
        publish, stores = settings.publish, backend.stores
        kept = Kept(
            lambda since: exposed_since(url, since),
            publish.idempotency_s + publish.record_s,
            stores.clock.now_ms,
        )
        reconciler = Reconciler(stores.whereabouts, lambda asked: exposed_users(url, asked), kept)
        return await reconciler.period(since, wait_s), await stores.exposures.length()


def exposed_users(url: str, messages: Mapping[str, int]) -> Mapping[str, set[str]]:
    """Whom these messages (id -> queued_at) reached, by the database of now."""
    from pushserver.database.reading import read  # noqa: PLC0415 - only these commands need SQLAlchemy

    with read(url) as reading:
        return reading.users_of(messages)


def exposed_since(url: str, since_ms: int) -> Mapping[str, int]:
    """Exposures of each message that was published since then, by the database of now."""
    from pushserver.database.reading import read  # noqa: PLC0415 - only these commands need SQLAlchemy

    with read(url) as reading:
        return reading.counts_since(since_ms)


def _print(found: Reconciled, in_stream: int, *, everything: bool) -> None:
    names, rows = list(found.totals), found.balances if everything else found.differing
    shown = rows if everything else rows[:ROWS]
    if shown:
        head = ["MESSAGE", "PUBLISHED", *map(str.upper, names)]
        cells = [[one.message_id, time_text(one.queued_at), *_counts(asdict(one), names)] for one in shown]
        print_table([head, *cells])
        if len(shown) < len(rows):
            print(f"... and {len(rows) - len(shown)} more (--json)")
        print()
    sums = [f"{count} {name}" for name, count in found.totals.items() if count or name == "difference"]
    print(f"{counted(len(found.balances), 'message')}: {', '.join(sums)}")
    for line in _remarks(found, in_stream):
        print(line)


def _remarks(found: Reconciled, in_stream: int) -> Iterator[str]:
    """What else is to be said, a line each."""
    differing, unknown, unfinished, full = found.differing, found.unknown, found.unfinished, found.full
    if differing:
        yield f"{counted(len(differing), 'message')} {'differs' if len(differing) == 1 else 'differ'}"
    if unknown.messages:
        what = f"{counted(unknown.exposures, 'exposure')} of {counted(unknown.messages, 'message')}"
        yield f"{what} that Redis does not know: {printable(some_of(unknown.ids, unknown.messages))}"
    if in_stream:
        wait = "waits" if in_stream == 1 else "wait"
        yield f"{counted(in_stream, 'exposure event')} {wait} in the stream for a consumer, or for Pub/Sub"
    if unfinished:
        one = len(unfinished) == 1
        what = "1 publish was" if one else f"{len(unfinished)} publishes were"
        rest = f"(nobody was told 202), and {'is' if one else 'are'} left out"
        yield f"{what} not completed {rest}: {some_of(unfinished, len(unfinished))}"
    if full:
        yield (
            f"of {counted(len(full), 'user')} more messages have gone than are noted, so differences may be "
            f"theirs: {printable(some_of(full, len(full)))}"
        )


def _counts(fields: Mapping[str, object], names: list[str]) -> list[str]:
    return [str(fields[name]) for name in names]


RECONCILE = Command("compare what was accepted with what became of it", _add_arguments, _reconcile)
