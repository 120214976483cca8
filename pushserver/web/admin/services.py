"""What the API asks of the rest of the server."""

from __future__ import annotations

from typing import Any, Protocol

from pushserver.core.categories import Categories
from pushserver.core.publication import Publication, Published

__all__ = ["CensusService", "ExplainerService", "PublisherService", "UserService"]


class PublisherService(Protocol):
    """Publishes messages. What is asked for first is carried out first."""

    def new_id(self) -> str:
        """An id that no message has yet."""

    async def publish(self, publication: Publication) -> Published:
        """Store it, and tell the pods.

        Raises `InvalidFieldError` for a content that is too large, `IdReusedError`, `RecalledError` or
        `StoreError`; after the last it may be stored in part, and repeating it completes it.
        """

    async def recall(self, message_id: str) -> bool:
        """Take back what is not delivered yet; False if no such message is known. Raises `StoreError`."""


class ExplainerService(Protocol):
    """Says where messages are."""

    async def explain(self, message_id: str, user: str = "") -> dict[str, Any] | None:
        """Where a message is and why, for one user or for all; None if nothing is known of it.

        Raises `StoreError`.
        """


class UserService(Protocol):
    """What is known about users and pods, and what can be done to them. All raise `StoreError`."""

    async def describe(self, user: str) -> dict[str, Any]:
        """Presence by pod, connections on this pod, categories, how much waits."""

    async def inbox(self, user: str) -> list[str]:
        """Ids that wait, oldest first."""

    async def parked(self, user: str) -> list[str]:
        """Ids taken out of the inbox as poison."""

    async def put_back(self, user: str, message_id: str) -> bool:
        """A parked id into the inbox again; False if it is not parked."""

    async def set_categories(self, user: str, categories: Categories) -> list[str]:
        """Store them, and move live connections; the pods that were told.

        Raises `InvalidFieldError` where they do not come from Redis.
        """

    async def disconnect(self, user: str) -> list[str]:
        """Close the user's connections on every pod; the pods that were told."""

    async def erase(self, user: str) -> list[str]:
        """Disconnect the user and remove every key of theirs; the pods that were told."""

    async def pods(self) -> list[dict[str, Any]]:
        """Every pod by its name, with what is known of its boot, host, address, version, started, expires
        (both ms), how many ms its lease has left, and whether it is alive."""


class CensusService(Protocol):
    """Counts the connections of this pod."""

    async def categories(self) -> list[dict[str, Any]]:
        """Each kind that somebody has, with its number of values, and those with most connections."""
