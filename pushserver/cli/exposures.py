"""`pushserver exposures`: the report on the database of exposures."""

from __future__ import annotations

import argparse
import re
import time
from datetime import UTC, datetime
from pathlib import Path

from pushserver.cli.argument_types import category, positive
from pushserver.cli.command import Command
from pushserver.config import Settings
from pushserver.core.errors import ConfigError, InvalidNameError
from pushserver.core.names import check_message_id

__all__ = ["EXPOSURES"]

_UNITS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
DAY_MS = _UNITS_MS["d"]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    groups = ("message", "category", "pod", "source", "time")
    parser.add_argument("--by", choices=groups, default="message", help="a line for each (%(default)s)")
    parser.add_argument(
        "--bucket", metavar="LENGTH", type=_length, default=DAY_MS, help="of --by time, as 15m, 1h or 7d (1d)"
    )
    parser.add_argument("--since", metavar="TIME", type=_time, help="confirmed at or after; 24h is that ago")
    parser.add_argument(
        "--until", metavar="TIME", type=_time, help="confirmed before; ISO 8601, UTC if not said"
    )
    parser.add_argument("--message", metavar="ID", type=_message_id, help="of this message only")
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


def _length(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if not found:
        raise argparse.ArgumentTypeError("must be a number and m, h or d, as 24h")
    return int(found[1]) * _UNITS_MS[found[2]]


def _time(text: str) -> int:
    """Milliseconds since 1970."""
    if re.fullmatch(r"[0-9]+[mhd]", text):
        return int(time.time() * 1000) - _length(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            "must be ISO 8601, as 2026-01-31T12:00, or a length, as 24h"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _message_id(text: str) -> str:
    try:
        return check_message_id(text)
    except InvalidNameError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


EXPOSURES = Command("a report on the database of exposures", _add_arguments, _exposures)
