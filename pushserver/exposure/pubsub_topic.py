"""One Pub/Sub topic: a publish request with bounded retries, and what its errors mean."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from google.api_core.exceptions import AlreadyExists, GoogleAPICallError, NotFound
from google.auth.exceptions import GoogleAuthError
from google.pubsub_v1 import PublisherAsyncClient, PublishRequest

from pushserver.core.errors import EventRefusedError, SinkError, SinkRefusedError, SinkUnavailableError
from pushserver.exposure.backoff import Backoff
from pushserver.exposure.event import Event
from pushserver.exposure.pubsub_client import connect_publisher
from pushserver.exposure.pubsub_status import PASSING, emulator, one_line, status_of

__all__ = ["PubSubTopic"]

Connect = Callable[[str], Awaitable[PublisherAsyncClient]]


class PubSubTopic:
    """The topic `name` (`projects/P/topics/T`).

    On the emulator, which forgets its topics when it stops, and with `create` (development), the topic is
    made when it is missing; else that is the operator's to do. `emulator_host` is `HOST:PORT`, or empty for
    Google's; None is what the variable PUBSUB_EMULATOR_HOST says.
    """

    def __init__(
        self,
        name: str,
        *,
        emulator_host: str | None = None,
        create: bool = False,
        attempts: int = 3,
        timeout_s: float = 5.0,
        connect: Connect = connect_publisher,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self._emulator_host = emulator(emulator_host)
        self._creates = create or bool(self._emulator_host)
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._connect = connect
        self._pause = pause
        self._client: PublisherAsyncClient | None = None
        self._connecting = asyncio.Lock()
        self._failing = False

    async def open(self) -> None:
        """Connect, and make the topic where that is done. Raises as `publish` does, without retries."""
        client = await self._connected()
        if self._creates:
            try:
                await self._create(client)
            except GoogleAPICallError as error:
                raise _sink_error(error) from None

    async def publish(self, events: Sequence[Event]) -> None:
        """Publish events in one request, of which the caller bounds the size.

        Tried up to `attempts` times, each bounded by `timeout_s`; just once while the last publish failed,
        because whoever comes again then has a back-off of its own. Raises `SinkUnavailableError` or
        `SinkRefusedError`.
        """
        request = self._request(events)
        backoff = Backoff(0.1, 1.0)
        left = 1 if self._failing else self._attempts
        while True:
            left -= 1
            try:
                await self._publish_once(request)
            except SinkError as error:
                if left <= 0 or isinstance(error, SinkRefusedError):
                    self._failing = True
                    raise
            else:
                self._failing = False
                return
            await self._pause(backoff.next_s())

    async def close(self) -> None:
        """Disconnect; a request under way fails. Twice is once."""
        client, self._client = self._client, None
        if client is not None:
            await client.transport.close()  # type: ignore[no-untyped-call]  # generated without types

    def _request(self, events: Sequence[Event]) -> PublishRequest:
        # Filled in place, in protobuf's own messages: proto-plus' wrappers cost ten times the CPU.
        request = PublishRequest.pb()(topic=self.name)
        for event in events:
            message = request.messages.add()
            message.data = event.data
            message.attributes.update(event.attributes)
        wrapped: PublishRequest = PublishRequest.wrap(request)
        return wrapped

    async def _publish_once(self, request: PublishRequest) -> None:
        client = await self._connected()
        try:
            try:
                await client.publish(request, retry=None, timeout=self._timeout_s)
            except NotFound:
                if not self._creates:
                    reason = f"there is no {self.name} (exposure.topic)"
                    raise SinkRefusedError("not_found", reason) from None
                await self._create(client)
                await client.publish(request, retry=None, timeout=self._timeout_s)
        except GoogleAPICallError as error:
            raise _sink_error(error) from None

    async def _create(self, client: PublisherAsyncClient) -> None:
        with suppress(AlreadyExists):
            await client.create_topic(name=self.name, retry=None, timeout=self._timeout_s)

    async def _connected(self) -> PublisherAsyncClient:
        async with self._connecting:
            if self._client is None:
                try:
                    self._client = await self._connect(self._emulator_host)
                except GoogleAuthError as error:
                    raise SinkRefusedError("credentials", one_line(str(error))) from None
            return self._client


def _sink_error(error: GoogleAPICallError) -> SinkError:
    status = status_of(error)
    if status == "invalid_argument":
        return EventRefusedError(status, one_line(error.message))
    known = SinkUnavailableError if status in PASSING else SinkRefusedError
    return known(status, one_line(error.message))
