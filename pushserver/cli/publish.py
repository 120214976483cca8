"""`pushserver publish`: send messages, through the code of the API but without HTTP."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pushserver.cli.argument_types import category, positive, username
from pushserver.cli.command import Command
from pushserver.config import Settings
from pushserver.core.errors import InvalidFieldError
from pushserver.core.jsontext import dump
from pushserver.core.jsonwalk import at_once
from pushserver.core.publish_request import content_text

if TYPE_CHECKING:
    from pushserver.web.admin.batch import Batch, Line
    from pushserver.web.admin.intake import Intake

__all__ = ["PUBLISH"]

READ_BYTES = 64 * 1024


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    to = parser.add_argument_group("for whom (one kind of these)")
    to.add_argument(
        "--to-user", metavar="USER", type=username, action="append", help="a user; may be repeated"
    )
    to.add_argument(
        "--category",
        metavar="KIND=VALUE",
        type=category,
        action="append",
        help="users of a category; several values of a kind: any of them, several kinds: all of them",
    )
    to.add_argument("--everyone", action="store_true", help="every user")
    to.add_argument(
        "--batch", metavar="FILE", help="NDJSON, a message as the API takes it on each line; - for stdin"
    )
    parser.add_argument("content", metavar="CONTENT", nargs="?", help="what it says, as JSON")
    parser.add_argument("--text", action="store_true", help="CONTENT is a text, no JSON")
    parser.add_argument("--id", help="message id; a repeat with the same id reaches nobody twice")
    parser.add_argument("--ttl", metavar="SECONDS", type=positive, help="how long it waits (content.ttl_s)")
    parser.add_argument("--live-only", action="store_true", help="for those who are connected now; not kept")


def _publish(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.batch is None:
        return asyncio.run(_publish_one(_request(arguments), settings))
    for name in ("to_user", "category", "everyone", "content", "text", "id", "ttl", "live_only"):
        if getattr(arguments, name):
            raise InvalidFieldError(name, "goes into the lines of the batch")
    if arguments.batch == "-":
        return asyncio.run(_publish_batch(cast(BufferedReader, sys.stdin.buffer), settings))
    try:
        with Path(arguments.batch).open("rb") as file:
            return asyncio.run(_publish_batch(file, settings))
    except OSError as error:
        raise InvalidFieldError("batch", f"cannot be read: {error.strerror}") from None


def _request(arguments: argparse.Namespace) -> bytes:
    """The arguments as the API's request."""
    if arguments.content is None:
        raise InvalidFieldError("content", "is missing")
    fields: dict[str, Any] = {"to": _target(arguments)}
    if arguments.id is not None:
        fields["id"] = arguments.id
    if arguments.ttl is not None:
        fields["ttl"] = arguments.ttl
    if arguments.live_only:
        fields["offline"] = False
    return f'{dump(fields)[:-1]},"content":{_content(arguments)}}}'.encode()


def _content(arguments: argparse.Namespace) -> str:
    """The content as JSON text, known to be one value: it is put between other fields."""
    text = json.dumps(arguments.content, ensure_ascii=False) if arguments.text else arguments.content
    return at_once(content_text(text.encode(errors="surrogateescape")))


def _target(arguments: argparse.Namespace) -> dict[str, Any]:
    target: dict[str, Any] = {}
    if arguments.to_user:
        target["users"] = arguments.to_user
    for kind, value in arguments.category or ():
        target.setdefault("categories", {}).setdefault(kind, []).append(value)
    if arguments.everyone:
        target["everyone"] = True
    if len(target) != 1:
        raise InvalidFieldError("to", "needs one of --to-user, --category, --everyone and --batch")
    return target


async def _publish_one(request: bytes, settings: Settings) -> int:
    async with _intake(settings) as intake:
        accepted = await intake.publish(await intake.read(request))
    print(dump(accepted.fields))
    return 0


async def _publish_batch(file: BufferedReader, settings: Settings) -> int:
    """Print a line of result for each; 1 if one of them was refused."""
    from pushserver.web.admin.batch import Batch  # noqa: PLC0415 - as in `_intake`
    from pushserver.web.admin.intake import max_request_bytes  # noqa: PLC0415

    refused = False
    max_line_bytes = max_request_bytes(settings.content.max_bytes, settings.publish.max_users)
    async with _intake(settings) as intake:
        batch = Batch(intake, max_line_bytes, max_lines=sys.maxsize)
        # What another program writes may be long in coming; what it has written is published meanwhile.
        while data := await asyncio.to_thread(file.read1, READ_BYTES):
            refused |= await _print_results(batch, batch.feed(data))
        refused |= await _print_results(batch, batch.end())
    return int(refused)


async def _print_results(batch: Batch, windows: Iterator[Sequence[Line]]) -> bool:
    """Whether a line was refused."""
    refused = False
    for window in windows:
        for line in (await batch.answer(window)).decode().splitlines():
            print(line, flush=True)
            refused |= "error" in json.loads(line)
    return refused


@asynccontextmanager
async def _intake(settings: Settings) -> AsyncIterator[Intake]:
    # Only commands that publish need Redis, and the API's code.
    from pushserver.api_parts import publish_rules  # noqa: PLC0415
    from pushserver.backend import open_backend  # noqa: PLC0415
    from pushserver.web.admin.intake import Intake  # noqa: PLC0415

    async with open_backend(settings) as backend:
        yield Intake(backend.publisher, publish_rules(settings), backend.metrics)


PUBLISH = Command("send a message, or many", _add_arguments, _publish)
