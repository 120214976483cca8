"""Seed offline messages for users, through the code that publishes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from pushserver.config import Settings
from pushserver.core.clock import StoreClock
from pushserver.core.metrics import Metrics
from pushserver.delivery.publish import Publisher
from pushserver.development import DATA_DIRECTORY
from pushserver.parts import Stores, build_stores
from pushserver.stores.embedded import EmbeddedValkey, embedded_url

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
    if not settings.development:
        return asyncio.run(_seed(settings, settings.redis.url.get_secret_value(), seeds))
    folder = DATA_DIRECTORY / "valkey"
    engine = EmbeddedValkey(folder)
    engine.start()
    try:
        return asyncio.run(_seed(settings, embedded_url(folder), seeds))
    finally:
        engine.stop()


async def _seed(settings: Settings, url: str, seeds: Seeds) -> int:
    metrics = Metrics()
    stores = build_stores(settings, url, "seed", metrics)
    publisher = Publisher(stores.contents, stores.inbox, stores.clock, metrics)
    try:
        await _read_clock(stores)
        return await _publish_all(publisher, seeds)
    finally:
        await stores.close()


async def _read_clock(stores: Stores) -> None:
    clock: StoreClock = stores.clock
    seconds, micros = await stores.commands.call("TIME")
    clock.adjust(int(seconds) * 1000 + int(micros) // 1000)


async def _publish_all(publisher: Publisher, seeds: Seeds) -> int:
    evicted = 0
    for start in range(0, seeds.count, BATCH):
        end = min(start + BATCH, seeds.count)
        for user in seeds.users:
            evicted += await _publish_some(publisher, seeds, user, range(start + 1, end + 1))
        _show(end, seeds.count, len(seeds.users))
    return evicted


async def _publish_some(publisher: Publisher, seeds: Seeds, user: str, numbers: range) -> int:
    """One user's share, in order: what is asked for in one turn of the loop travels in one pipeline."""
    sends = [
        publisher.to_users(
            [user],
            {"number": number, "text": _filled_in(seeds.text, number, user)},
            message_id=publisher.new_id(),
            ttl_s=seeds.ttl_s,
        )
        for number in numbers
    ]
    answers = await asyncio.gather(*sends)
    return sum(appended.evicted for answer in answers for appended in answer)


def _filled_in(text: str, number: int, user: str) -> str:
    # Not str.format: any other brace is the text's own.
    return text.replace("{number}", str(number)).replace("{user}", user)


def _show(done: int, count: int, users: int) -> None:
    end = "\n" if done == count else ""
    if sys.stderr.isatty() or end:
        print(f"\r{done}/{count} messages for {users} user(s)", end=end, file=sys.stderr, flush=True)
