"""Streams: places in them as numbers, and reading one as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from redis.asyncio import Redis
from redis.crc import key_slot

from pushserver.core.errors import StoreError
from pushserver.stores.cluster import Cluster
from pushserver.stores.faults import CLIENT_ERRORS, redirect, store_error
from pushserver.stores.pool import Pool

__all__ = ["Entry", "StreamReader", "fields_of", "position_of", "stream_id"]

_SEQ_BITS = 64

Entry = tuple[int, Sequence[bytes]]
"""Position, and fields and values in turn."""


def position_of(entry_id: bytes) -> int:
    """A stream id as a number, in the order of the stream. Raises `ValueError` for what is no id."""
    ms, _, seq = entry_id.partition(b"-")
    return int(ms) << _SEQ_BITS | int(seq)


def stream_id(position: int) -> str:
    """The stream id of a position."""
    return f"{position >> _SEQ_BITS}-{position & ((1 << _SEQ_BITS) - 1)}"


def fields_of(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """The fields of an entry, by name."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


class StreamReader:
    """Waits for entries of a stream, on a client of its own: a read that waits holds its connection."""

    def __init__(self, client: Redis | Cluster, *, timeout_s: float) -> None:
        self._client = client
        # Below the time-out of the socket, which is there for an engine that hangs.
        self._block_ms = max(1, min(1000, int(timeout_s * 500)))
        self._timeout_s = timeout_s + 1

    async def read(self, key: str, after: int, count: int) -> list[Entry]:
        """Up to `count` entries behind `after`, as soon as there are any; empty after a second at most.

        Raises `StoreError`; the next read may find what this one missed.
        """
        command = ("XREAD", "COUNT", count, "BLOCK", self._block_ms, "STREAMS", key, stream_id(after))
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._pool(key).ask(*command)
        except CLIENT_ERRORS as error:
            raise await self._fault(error) from None
        except TimeoutError as error:
            raise store_error(error) from None
        _heed_cancel()
        return [(position_of(entry_id), fields) for entry_id, fields in answer[0][1]] if answer else []

    def _pool(self, key: str) -> Pool:
        client = self._client
        if isinstance(client, Cluster):
            client = client.client(client.node_of(int(key_slot(key.encode()))))
        return cast(Pool, client.connection_pool)

    async def _fault(self, error: Exception) -> StoreError:
        """The error; of a cluster, the next read asks whom the map then names."""
        if isinstance(self._client, Cluster):
            to = redirect(error)
            if to is not None and to.node[0]:
                self._client.moved(to)
            else:
                await self._client.learn(self._client.nodes)
        return store_error(error)

    async def close(self) -> None:
        """Disconnect."""
        await self._client.aclose()


def _heed_cancel() -> None:
    """Up to Python 3.11 `asyncio.wait_for`, which redis-py uses, loses a cancel that comes with its end."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
