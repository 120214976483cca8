"""The connections to one engine, and a client on them."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis

__all__ = ["Pool", "open_client"]


class Pool(BlockingConnectionPool):
    """A pool that waits for a connection when all are in use: a storm opens no more, and raises nothing."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close every connection, or those that nobody uses now.

        The latter at once: redis-py would do it in tasks of their own, and meanwhile somebody could take
        one of them and lose it. A peer that is gone is not waited for.
        """
        if inuse_connections:
            await super().disconnect()
            return
        for connection in self._available_connections:
            await connection.disconnect(nowait=True)


def open_client(pool: Pool) -> Redis:
    """A client whose answers are as the protocol has them. Nothing is connected yet."""
    client = Redis.from_pool(pool)
    client.response_callbacks.clear()
    return client
