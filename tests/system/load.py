"""A load: messages to users, to categories and to everyone, all the time."""

from __future__ import annotations

import asyncio
import random

from pushserver.core.categories import Categories
from pushserver.core.publication import Publication
from tests.system.backend import Backend

__all__ = ["Load", "categories_of"]

TARGETS: list[Categories] = [
    *({"vip": (value,)} for value in "0123"),
    {"level": ("0", "1")},
    {"vip": ("1", "2"), "level": ("1",)},
    {},
]
WEIGHTS = [4, 4, 4, 4, 2, 2, 1]
HALLS = ["north", "south"]


def categories_of(number: int) -> Categories:
    """Of the user of that number: each target means some of them, and some have two values of a kind."""
    vip = (str(number % 4), str((number + 1) % 4)) if number % 5 == 0 else (str(number % 4),)
    return {"vip": vip, "level": (str(number % 3),)}


class Load:
    """Publishes to users, to categories and to everyone until told to stop."""

    def __init__(self, sender: Backend, chance: random.Random) -> None:
        self.over = False
        self._sender = sender
        self._chance = chance

    async def to_users(self, group: list[str]) -> None:
        """One after the other to some of these users."""
        while not self.over:
            some = self._chance.sample(group, self._chance.choice([1, 1, 1, 2, 5]))
            await self._send(self._sender.to_users(some))
            await asyncio.sleep(self._chance.random())

    async def to_categories(self) -> None:
        """To categories, seldom to everyone; two of these run, so publishes cross."""
        while not self.over:
            target = self._chance.choices(TARGETS, WEIGHTS)[0]
            await self._send(self._sender.to_categories(target))
            await asyncio.sleep(2 * self._chance.random())

    async def moves(self, users: list[str]) -> None:
        """Users go from hall to hall. No message is for a hall meanwhile: who was meant could not be said."""
        while not self.over:
            user, hall = self._chance.choice(users), self._chance.choice(HALLS)
            await self._sender.move(user, {**self._sender.history.categories[user], "hall": (hall,)})
            await asyncio.sleep(self._chance.random())

    async def to_halls(self) -> None:
        """One message to each hall."""
        for hall in HALLS:
            await self._sender.until_answered(self._sender.to_categories({"hall": (hall,)}))

    async def _send(self, publication: Publication) -> None:
        """Most are repeated until they are answered; some are repeated although they were."""
        if self._chance.random() < 0.9:
            await self._sender.until_answered(publication)
        else:
            await self._sender.try_once(publication)
        if self._chance.random() < 0.05:
            await self._sender.until_answered(publication)
