"""`pushserver exposures`: the report on the database of exposures."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from pushserver.cli.argument_types import DAY_MS, category, length, message_id, moment, positive
from pushserver.cli.command import Command
from pushserver.config import Settings
from pushserver.core.errors import ConfigError

__all__ = ["EXPOSURES"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    groups = ("message", "category", "pod", "source", "time")
    parser.add_argument("--by", choices=groups, default="message", help="a line for each (%(default)s)")
    parser.add_argument(
        "--bucket", metavar="LENGTH", type=length, default=DAY_MS, help="of --by time, as 15m, 1h or 7d (1d)"
    )
    parser.add_argument("--since", metavar="TIME", type=moment, help="confirmed at or after; 24h is that ago")
    parser.add_argument(
        "--until", metavar="TIME", type=moment, help="confirmed before; ISO 8601, UTC if not said"
    )
    parser.add_argument("--message", metavar="ID", type=message_id, help="of this message only")
    parser.add_argument(
        "--category", metavar="KIND=VALUE", type=category, help="of users in this category only"
    )
    parser.add_argument("--limit", metavar="N", type=positive, default=20, help="lines at most (%(default)s)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON")
    form.add_argument("--csv", action="store_true", help="as CSV")
    form.add_argument("--html", metavar="FILE", type=Path, help="as a page for a browser, all groups in it")


def _exposures(arguments: argparse.Namespace, settings: Settings) -> int:
    # Only this command needs SQLAlchemy.
    from pushserver.database.reading import Filter, read  # noqa: PLC0415
    from pushserver.report import page, tables  # noqa: PLC0415

    which = Filter(arguments.since, arguments.until, arguments.message or "", arguments.category)
    with read(settings.consume.database_url.get_secret_value()) as reading:
        if arguments.html:
            _write(arguments.html, page.as_html(page.read_page(reading, which), int(time.time() * 1000)))
            return 0
        groups = reading.figures(arguments.by, which, bucket_ms=arguments.bucket, limit=arguments.limit)
        if arguments.csv:
            print(tables.as_csv(arguments.by, groups), end="")
            return 0
        form = tables.as_json if arguments.json else tables.as_table
        print(form(arguments.by, groups, reading.totals(which)))
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError("--html", f"{path}: {error.strerror}") from None


EXPOSURES = Command("a report on the database of exposures", _add_arguments, _exposures)
