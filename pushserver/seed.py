"""Seed offline messages for users, through the code that publishes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pushserver.backend import open_backend
from pushserver.config import Settings
from pushserver.core.jsontext import dump
from pushserver.core.publication import Publication
from pushserver.delivery.publish import Publisher

__all__ = ["Seeds", "seed"]

BATCH = 200
"""Messages on their way at a time."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """What to seed: `count` messages for each of `users`, living `ttl_s` seconds.

    `text` may hold `{number}` and `{user}`.
    """

    users: Sequence[str]
    count: int
    text: str
    ttl_s: int


def seed(settings: Settings, seeds: Seeds) -> int:
    """Put the messages into the inboxes, showing progress; answers how many the cap evicted.

    Raises `StoreError` or `InvalidNameError`.
    """
    return asyncio.run(_seed(settings, seeds))


async def _seed(settings: Settings, seeds: Seeds) -> int:
    async with open_backend(settings) as backend:
        await _publish_all(backend.publisher, seeds)
        return int(backend.evicted)


async def _publish_all(publisher: Publisher, seeds: Seeds) -> None:
    for start in range(0, seeds.count, BATCH):
        end = min(start + BATCH, seeds.count)
        for user in seeds.users:
            await _publish_some(publisher, seeds, user, range(start + 1, end + 1))
        _show(end, seeds.count, len(seeds.users))


async def _publish_some(publisher: Publisher, seeds: Seeds, user: str, numbers: range) -> None:
    """One user's share, in order: what is asked for in one turn of the loop travels in one pipeline."""
    sends = [
        publisher.publish(
            Publication(
                publisher.new_id(),
                dump({"number": number, "text": _filled_in(seeds.text, number, user)}),
                seeds.ttl_s,
                (user,),
                id_is_new=True,
            )
        )
        for number in numbers
    ]
    await asyncio.gather(*sends)


def _filled_in(text: str, number: int, user: str) -> str:
    # Not str.format: any other brace is the text's own.
    return text.replace("{number}", str(number)).replace("{user}", user)


def _show(done: int, count: int, users: int) -> None:
    end = "\n" if done == count else ""
    if sys.stderr.isatty() or end:
        print(f"\r{done}/{count} messages for {users} user(s)", end=end, file=sys.stderr, flush=True)
