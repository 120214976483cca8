"""The connections to one engine, and a client on them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool, Redis

from pushserver.stores.link import Argument, Link, pack

__all__ = ["Pool", "open_client"]

GONE_S = 1.0
"""How long it is waited until what was closed is. Nobody has to answer for that."""


class Pool(BlockingConnectionPool):
    """Links for lanes and readers, who bound their number; and redis-py's pool for a client's own commands.

    The latter waits for a connection when all are in use: a storm opens no more, and raises nothing.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._answer_s: float | None = options.get("socket_timeout")
        self._links: set[Link] = set()
        self._idle: list[Link] = []
        self._opening: set[Any] = set()

    # -- links

    def idle_link(self) -> Link | None:
        """The link that was used last, of those that nobody uses; to be given back."""
        while self._idle:
            link = self._idle.pop()
            if self.leads_right(link.connection):
                return link
            link.cut(redis_errors.ConnectionError("it leads elsewhere"))
        return None

    async def open_link(self) -> Link:
        """A new link, to be given back. Raises what redis-py raises when it cannot connect."""
        connection = self.make_connection()  # type: ignore[no-untyped-call] # redis-py's
        self._opening.add(connection)
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        finally:
            self._opening.discard(connection)
        link = Link(connection, self._forget)
        self._links.add(link)
        return link

    def give_back(self, link: Link) -> None:
        """Nothing travels on it any more. One that was closed is forgotten."""
        if not link.closed:
            self._idle.append(link)

    async def ask(self, *args: Argument) -> Any:
        """Send one command and wait for its answer, which holds a link meanwhile.

        Raises the error that the answer is, or what redis-py and the network raise. A wait that is cancelled
        ends its link.
        """
        link = self.idle_link() or await self.open_link()
        answer: asyncio.Future[list[Any] | BaseException] = asyncio.get_running_loop().create_future()
        link.send([pack(args)], partial(_hand, answer))
        try:
            async with asyncio.timeout(self._answer_s):
                outcome = await answer
        except BaseException:
            link.cut(redis_errors.ConnectionError("nobody waits for the answer"))
            raise
        self.give_back(link)
        result = outcome if isinstance(outcome, BaseException) else outcome[0]
        if isinstance(result, BaseException):
            try:
                raise result
            finally:
                # Its traceback knows this frame: the circle would keep the link and its buffer.
                del result, outcome, answer, link
        return result

    def leads_right(self, connection: Any) -> bool:
        """Whether a connection leads to the engine that is meant now; asked before each use."""
        return True

    def _forget(self, link: Link) -> None:
        self._links.discard(link)
        if link in self._idle:
            self._idle.remove(link)

    def drop_idle(self) -> None:
        """Close all that nobody uses now, at once. A peer that is gone is not waited for."""
        for link in list(self._idle):
            link.cut(redis_errors.ConnectionError("nobody used it"))
        for connection in self._available_connections:
            # redis-py would do it in tasks of their own; meanwhile somebody could take one and lose it.
            connection._close()  # type: ignore[no-untyped-call] # redis-py's

    # -- of redis-py

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close every connection, or those that nobody uses now."""
        links = list(self._links) if inuse_connections else []
        self.drop_idle()
        if not inuse_connections:
            return
        for link in links:
            link.cut(redis_errors.ConnectionError("the pool is closed"))
        for connection in list(self._opening):
            await connection.disconnect(nowait=True)
        await super().disconnect()
        with suppress(TimeoutError):
            async with asyncio.timeout(GONE_S):
                await asyncio.gather(*(link.gone.wait() for link in links))


def _hand(answer: asyncio.Future[list[Any] | BaseException], outcome: list[Any] | BaseException) -> None:
    if not answer.done():
        answer.set_result(outcome)


def open_client(pool: Pool) -> Redis:
    """A client whose answers are as the protocol has them. Nothing is connected yet."""
    client = Redis.from_pool(pool)
    client.response_callbacks.clear()
    return client
