"""One Pub/Sub subscription: pulling its messages, acknowledging them, and what its errors mean.

By pulls, not by a stream: a pull asks for as many messages as there is room for, no more. And Google's
emulator goes on feeding a stream whose client was killed; nobody else gets what it gave there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from google.api_core.exceptions import AlreadyExists, DeadlineExceeded, GoogleAPICallError, NotFound
from google.auth.exceptions import GoogleAuthError
from google.pubsub_v1 import PullResponse, SubscriberAsyncClient

from pushserver.core.errors import SourceError
from pushserver.exposure.pubsub_client import connect_publisher, connect_subscriber
from pushserver.exposure.pubsub_status import emulator, one_line, status_of
from pushserver.exposure.source import Delivery

__all__ = ["PubSubSubscription"]

EXTEND_TO_S = 60
"""Seconds after which Pub/Sub gives a message out again whose time was extended."""

FIRST_DEADLINE_S = 10
"""The least time, and the usual one, that a subscription gives for a message, unless it is extended."""

PULL_S = 20.0
"""How long a pull waits for a message."""

IDS_AT_ONCE = 1000
"""Acknowledged in one request, which may have 512 KiB: an id has some 200 bytes."""

Connect = Callable[[str], Awaitable[SubscriberAsyncClient]]


class PubSubSubscription:
    """The subscription `name` (`projects/P/subscriptions/S`).

    On the emulator, which forgets everything when it stops, it is made when it is missing, and its `topic`
    as well, unless that is empty; on Google's that is the operator's to do.

    Every method but `close` may raise `SourceError`.
    `emulator_host` as of `PubSubTopic`.
    """

    def __init__(
        self,
        name: str,
        topic: str,
        *,
        emulator_host: str | None = None,
        timeout_s: float = 10.0,
        connect: Connect = connect_subscriber,
    ) -> None:
        self.name = name
        self._topic = topic
        self._emulator_host = emulator(emulator_host)
        self._creates = bool(topic and self._emulator_host)
        self._timeout_s = timeout_s
        self._connect = connect
        self._client: SubscriberAsyncClient | None = None

    async def open(self) -> None:
        """Connect, and make it on the emulator."""
        with self._as_source_errors():
            client = await self._connected()
            if self._creates:
                await self._create(client)

    async def pull(self, count: int) -> Sequence[Delivery]:
        """Up to `count` messages as soon as there are any; none after `PULL_S`."""
        with self._as_source_errors():
            client = await self._connected()
            try:
                answer = await client.pull(
                    subscription=self.name, max_messages=count, retry=None, timeout=PULL_S
                )
            except DeadlineExceeded:
                return []
            except NotFound:
                if not self._creates:
                    raise
                await self._create(client)
                return []
        # protobuf's own messages: proto-plus' wrappers cost ten times the CPU.
        raw = PullResponse.pb(answer)
        return [Delivery(one.ack_id, one.message.data) for one in raw.received_messages]

    async def acknowledge(self, ids: Sequence[str]) -> None:
        """These need not come again."""
        with self._as_source_errors():
            client = await self._connected()
            for part in _parts(ids):
                await client.acknowledge(
                    subscription=self.name, ack_ids=part, retry=None, timeout=self._timeout_s
                )

    async def extend(self, ids: Sequence[str], seconds: int = EXTEND_TO_S) -> None:
        """Give these out again after `seconds` from now, not before; 0 is at once."""
        with self._as_source_errors():
            client = await self._connected()
            for part in _parts(ids):
                await client.modify_ack_deadline(
                    subscription=self.name,
                    ack_ids=part,
                    ack_deadline_seconds=seconds,
                    retry=None,
                    timeout=self._timeout_s,
                )

    async def close(self) -> None:
        """Disconnect. Twice is once."""
        client, self._client = self._client, None
        if client is not None:
            await client.transport.close()  # type: ignore[no-untyped-call]  # generated without types

    async def _connected(self) -> SubscriberAsyncClient:
        if self._client is None:
            self._client = await self._connect(self._emulator_host)
        return self._client

    async def _create(self, client: SubscriberAsyncClient) -> None:
        publisher = await connect_publisher(self._emulator_host)
        try:
            with suppress(AlreadyExists):
                await publisher.create_topic(name=self._topic, retry=None, timeout=self._timeout_s)
        finally:
            await publisher.transport.close()  # type: ignore[no-untyped-call]  # generated without types
        with suppress(AlreadyExists):
            await client.create_subscription(
                name=self.name,
                topic=self._topic,
                ack_deadline_seconds=FIRST_DEADLINE_S,
                retry=None,
                timeout=self._timeout_s,
            )

    @contextmanager
    def _as_source_errors(self) -> Iterator[None]:
        try:
            yield
        except NotFound:
            raise SourceError("not_found", f"there is no {self.name} (consume.subscription)") from None
        except GoogleAPICallError as error:
            raise SourceError(status_of(error), one_line(error.message)) from None
        except GoogleAuthError as error:
            raise SourceError("credentials", one_line(str(error))) from None


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), IDS_AT_ONCE):
        yield list(ids[start : start + IDS_AT_ONCE])
