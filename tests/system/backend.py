"""A back end: publishes through the package's own publisher, past any proxy or pod, and writes it down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pushserver.backend import Backend as OpenBackend
from pushserver.backend import open_backend
from pushserver.core.categories import Categories
from pushserver.core.errors import StoreError
from pushserver.core.publication import Publication
from tests.pod import settings
from tests.system.history import Broadcast, History
from tests.texts import message_text, to_users

__all__ = ["Backend", "backend"]

TTL_S = 3600
PAUSE_S = 0.1
"""Before a publish that was not answered is repeated."""


class Backend:
    """Sends messages one after the other to each user, so that the order they were sent in is the inbox's."""

    def __init__(self, opened: OpenBackend, redis: Any, history: History, prefix: str = "m") -> None:
        self._publisher = opened.publisher
        self._users = opened.users
        self.whereabouts = opened.stores.whereabouts
        self._redis = redis
        self.history = history
        self._prefix = prefix
        self._number = 0

    async def send(self, user: str, content: Any = None) -> str:
        """Publish to one user; the id. Raises `StoreError`; then the message may be there, or not."""
        (message_id,) = await self._send_at_once(user, 1, content)
        return message_id

    async def try_to_send(self, user: str) -> bool:
        """Publish to one user; False if it was not answered."""
        try:
            await self.send(user)
        except StoreError:
            return False
        return True

    async def send_many(self, user: str, count: int, content: Any = None) -> list[str]:
        """Publish `count` messages to one user, in order: what is asked for at once travels in order."""
        ids: list[str] = []
        while len(ids) < count:
            ids += await self._send_at_once(user, min(100, count - len(ids)), content)
        return ids

    async def _send_at_once(self, user: str, count: int, content: Any) -> list[str]:
        first, self._number = self._number + 1, self._number + count
        ids = {f"m-{number:06d}": number for number in range(first, first + count)}
        self.history.attempted[user].update(ids)
        publications = [
            to_users([user], {"number": number} if content is None else content, one, TTL_S)
            for one, number in ids.items()
        ]
        answers = await asyncio.gather(*map(self._publisher.publish, publications), return_exceptions=True)
        # In the order they were asked for, which is the inbox's; the nodes of a cluster answer in any.
        for message_id, answer in zip(ids, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            self.history.accepted[user].append(message_id)
        return list(ids)

    def put_many(self, user: str, count: int, content: Any) -> list[str]:
        """Write `count` messages as any program can: their contents, and their ids into the inbox.

        For large inboxes: beyond the cap of whoever publishes, and ten times as quick.
        """
        first, self._number = self._number + 1, self._number + count
        ids = [f"m-{number:06d}" for number in range(first, first + count)]
        now_ms = time.time_ns() // 1_000_000
        with self._redis.pipeline(transaction=False) as pipeline:
            for one in ids:
                pipeline.set(f"ps:msg:{one}", message_text(one, now_ms, content), ex=TTL_S)
            pipeline.rpush(f"ps:inbox:{{{user}}}", *ids)
            pipeline.execute()
        self.history.attempted[user].update(ids)
        self.history.accepted[user] += ids
        return ids

    async def keep_sending(self, user: str, every_s: float) -> None:
        """Publish until cancelled; what fails is repeated under its id until it is answered."""
        while True:
            self._number += 1
            # Others count on meanwhile, and a repeat has to say the same.
            number = self._number
            message_id = f"m-{number:06d}"
            self.history.attempted[user].add(message_id)
            while True:
                try:
                    await self._publish(user, message_id, {"number": number})
                    break
                except StoreError:
                    await asyncio.sleep(every_s)
            await asyncio.sleep(every_s)

    # -- one publication: what was asked, answered, and repeated is written down

    def to_users(self, users: Sequence[str]) -> Publication:
        """A new message to users. Whoever publishes to the same user does so one after the other."""
        publication = to_users(users, {"number": self._number}, self._new_id(), TTL_S)
        for user in users:
            self.history.attempted[user].add(publication.id)
        return publication

    def to_categories(self, target: Categories) -> Publication:
        """A new message to categories, or to everyone."""
        message_id = self._new_id()
        self.history.broadcasts[message_id] = Broadcast(target, time.monotonic())
        return Publication(message_id, f'{{"number":{self._number}}}', TTL_S, categories=target)

    def _new_id(self) -> str:
        self._number += 1
        self.history.counts["published"] += 1
        return f"{self._prefix}-{self._number:06d}"

    async def try_once(self, publication: Publication) -> bool:
        """Publish; False if it was refused or not answered: then it may be there, or not."""
        try:
            published = await self._publisher.publish(publication)
        except StoreError:
            self.history.counts["refused"] += 1
            return False
        self._answered(publication)
        self.history.counts["answered"] += 1
        self.history.counts["duplicates answered"] += published.duplicate
        return True

    async def until_answered(self, publication: Publication) -> None:
        """Repeat it under its id until it is answered."""
        while not await self.try_once(publication):
            self.history.counts["repeats"] += 1
            await asyncio.sleep(PAUSE_S)

    async def move(self, user: str, categories: Categories) -> None:
        """Give the user other categories, repeated until it is answered."""
        while True:
            try:
                await self._users.set_categories(user, categories)
                break
            except StoreError:
                await asyncio.sleep(PAUSE_S)
        self.history.categories[user] = categories
        self.history.counts["moves to other categories"] += 1

    def _answered(self, publication: Publication) -> None:
        if publication.categories is not None:
            self.history.broadcasts[publication.id].answered = True
        for user in publication.users:
            if publication.id not in self.history.accepted[user][-1:]:
                self.history.accepted[user].append(publication.id)

    async def _publish(self, user: str, message_id: str, content: Any) -> None:
        await self._publisher.publish(to_users([user], content, message_id, TTL_S))
        self.history.accepted[user].append(message_id)


@asynccontextmanager
async def backend(redis_url: str, redis: Any, history: History, prefix: str = "m") -> AsyncIterator[Backend]:
    """A back end on the Redis at `redis_url`; its ids begin with `prefix`. `redis` is a plain client."""
    async with open_backend(settings(redis_url)) as opened:
        yield Backend(opened, redis, history, prefix)
