"""Questions to pods: what of a message was sent on the connections of a user, and is not settled yet.

    whoever asks -> the feeds of the pods where the user is -> each answers -> replies

Only a pod knows that; a pod of another version, or one that hangs, does not answer in time.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import structlog

from pushserver.core.errors import StoreError
from pushserver.core.jsontext import dump, parse_quick
from pushserver.delivery.connection import Connection
from pushserver.delivery.feeds import Feeds
from pushserver.delivery.manager import Manager
from pushserver.delivery.tasks import Tasks
from pushserver.stores.feed_entry import Ask
from pushserver.stores.replies import Replies

__all__ = ["Answers", "Questions"]

log = structlog.get_logger(__name__)

WAIT_S = 1.0
"""How long answers are waited for."""
LOOK_S = 0.01
MAX_CONNECTIONS = 100
"""Of a user on one pod, that are told of."""


class Questions:
    """Asks."""

    def __init__(self, feeds: Feeds, replies: Replies) -> None:
        self._feeds = feeds
        self._replies = replies

    async def ask(self, pods: Iterable[str], user: str, message_id: str) -> list[dict[str, Any]]:
        """The user's connections on these pods, each with its pod, as `Answers` tells them.

        A pod that did not answer stands there with `connection` None. Raises `StoreError`.
        """
        token = secrets.token_urlsafe(12)
        asked = await self._feeds.tell(pods, Ask(user, message_id, token))
        replies: dict[str, bytes] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                while asked and not replies.keys() >= set(asked):
                    # Others write there, and nobody here is told.
                    await asyncio.sleep(LOOK_S)
                    replies = await self._replies.read(token)
        told: list[dict[str, Any]] = []
        for pod in sorted(asked):
            told += _read(pod, replies.get(pod))
        return told


def _read(pod: str, reply: bytes | None) -> list[dict[str, Any]]:
    if reply is None:
        return [{"pod": pod, "connection": None}]
    return [{"pod": pod, **connection} for connection in parse_quick(reply)]


class Answers:
    """Answers for the connections of this pod."""

    def __init__(self, manager: Manager, replies: Replies, tasks: Tasks, pod: str) -> None:
        self._manager = manager
        self._replies = replies
        self._tasks = tasks
        self._pod = pod

    def answer(self, ask: Ask) -> None:
        """Look, and answer behind the caller's back. What is said is of this moment."""
        connections = self._manager.of(ask.user)[:MAX_CONNECTIONS]
        text = dump([_told(connection, ask.message_id) for connection in connections])
        self._tasks.spawn(self._put(ask.token, text), "answer")

    async def _put(self, token: str, text: str) -> None:
        try:
            await self._replies.put(token, self._pod, text)
        except StoreError as error:
            # Whoever asked does not wait for long.
            log.info("question.unanswered", kind=error.kind)


def _told(connection: Connection, message_id: str) -> dict[str, object]:
    """A connection, and when the message was written to it; `confirmed` once it said that it has it."""
    sent = connection.ledger.sent.get(message_id)
    return {
        "connection": connection.id,
        "state": connection.state.value,
        "unconfirmed": connection.ledger.unconfirmed,
        "pushed_at": None if sent is None else sent.pushed_at,
        "confirmed": sent is not None and connection.is_confirmed(sent),
    }
