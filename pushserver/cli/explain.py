"""`pushserver explain`: where a message is, and why."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import asdict
from typing import Any

from pushserver.cli.argument_types import database_url, message_id, username
from pushserver.cli.command import Command
from pushserver.cli.reconcile import exposed_users
from pushserver.cli.table import time_text
from pushserver.config import Settings
from pushserver.core.counting import counted
from pushserver.core.errors import ConfigError, DatabaseError
from pushserver.core.jsontext import dump
from pushserver.logs import printable

__all__ = ["EXPLAIN", "print_told"]

_TIMES = ("queued_at", "accepted_at", "expires_at", "recalled_at")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("message", metavar="MESSAGE", type=message_id, help="its id")
    parser.add_argument("user", metavar="USER", type=username, nargs="?", help="on its way to whom")
    parser.add_argument(
        "--store", metavar="URL", type=database_url, help="database of exposures (consume.database_url)"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, times in milliseconds since 1970")


def _explain(arguments: argparse.Namespace, settings: Settings) -> int:
    """1 if nothing is known of the message."""
    url = arguments.store or settings.consume.database_url.get_secret_value()
    told = asyncio.run(_ask(settings, url, arguments.message, arguments.user or ""))
    if arguments.json:
        print(dump(told))
    else:
        print_told(told)
    return int(not told["known"])


async def _ask(settings: Settings, url: str, message: str, user: str) -> dict[str, Any]:
    # Only commands that look into Redis need it.
    from pushserver.backend import open_backend  # noqa: PLC0415
    from pushserver.reconcile import Reconciler  # noqa: PLC0415

    async with open_backend(settings) as backend:
        told = await backend.explainer.explain(message, user) or {"id": message}
        known = "state" in told
        database = "read"
        try:
            if user:
                known |= _add_exposures(told, url, user)
            elif told.get("kind") == "users":
                reconciler = Reconciler(backend.stores.whereabouts, lambda asked: exposed_users(url, asked))
                found = await reconciler.message(message, 0)
                told["balance"] = next(map(asdict, found.balances), None)
        except (ConfigError, DatabaseError) as error:
            # What Redis knows is worth telling without it.
            database = str(error)
    return {**told, "known": known, "database": database}


def _add_exposures(told: dict[str, Any], url: str, user: str) -> bool:
    """What the database knows of the way to a user; whether it knows anything."""
    from pushserver.database.reading import read  # noqa: PLC0415 - only these commands need SQLAlchemy

    with read(url) as reading:
        shown = reading.shown(told["id"], user)
    told["exposures"] = [asdict(one) for one in shown]
    if shown and "user" in told:
        why = f"confirmed on {counted(len(shown), 'connection')}"
        told["user"] |= {"state": "exposed", "why": why, "at": shown[0].confirmed_at}
    return bool(shown)


def print_told(told: dict[str, Any]) -> None:
    """For people. What others wrote of themselves moves no terminal."""
    print(f"{told['id']}: {told.get('state', 'unknown')}" + (f", {told['why']}" if "why" in told else ""))
    for name in _TIMES:
        if told.get(name) is not None:
            print(f"  {name.removesuffix('_at')} at {time_text(told[name])}")
    if told.get("kind"):
        print(f"  for {told['kind']}" + (f", {told['users']} of them" if told["users"] is not None else ""))
    if told.get("log"):
        print(f"  in the log at {told['log']['id']}, to {printable(dump(told['log']['to'] or 'everyone'))}")
    for name, count in (told.get("balance") or {}).items():
        if name not in {"message_id", "queued_at"} and (count or name == "difference"):
            print(f"  {count} {name}")
    if "user" in told:
        _print_way(told["user"])
    for one in told.get("exposures", ()):
        pushed, confirmed = time_text(one["pushed_at"]), time_text(one["confirmed_at"])
        print(f"  exposed on {printable(one['connection'])} of {printable(one['pod'])}, {one['source']}:")
        print(f"    pushed {pushed}, confirmed {confirmed} ({one['proof']})")
    if told["database"] != "read":
        print(f"  without exposures: {told['database']}")


def _print_way(way: dict[str, Any]) -> None:
    at = f", {time_text(way['at'])}" if way["at"] is not None else ""
    print(f"  {printable(way['user'])}: {way['state']}{at}: {way['why']}")
    for one in way["connections"]:
        if one["connection"] is None:
            print(f"    {one['pod']} did not answer in time")
            continue
        sent = "not sent, or settled" if one["pushed_at"] is None else f"sent {time_text(one['pushed_at'])}"
        confirmed = ", confirmed" if one["confirmed"] else ""
        print(f"    connection {one['connection']} of {one['pod']}, {one['state']}: {sent}{confirmed}")


EXPLAIN = Command("say where a message is, and why", _add_arguments, _explain)
