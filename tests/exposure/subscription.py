"""A subscription of the test's own, to see what arrives in a topic of the emulator."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types
from google.api_core.exceptions import AlreadyExists, DeadlineExceeded
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

from tests.engines.pubsub_emulator import PubSubEmulator

__all__ = ["Arrived", "Subscription", "new_topic"]

_numbers = itertools.count(1)


def new_topic() -> str:
    """The name of a topic that no other test of this run uses."""
    return f"projects/dev/topics/exposures-{next(_numbers)}"


@dataclass(frozen=True)
class Arrived:
    """A message as it came out of Pub/Sub."""

    data: bytes
    attributes: dict[str, str]


class Subscription:
    """Subscribes to a topic, made if it is missing, and receives what is published from then on."""

    def __init__(self, emulator: PubSubEmulator, topic: str) -> None:
        self._topic = topic
        self._name = topic.replace("/topics/", "/subscriptions/")
        self._channel = grpc.aio.insecure_channel(emulator.host, options=[("grpc.enable_http_proxy", 0)])
        self._publisher = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=self._channel))
        self._subscriber = SubscriberAsyncClient(
            transport=SubscriberGrpcAsyncIOTransport(channel=self._channel)
        )

    async def __aenter__(self) -> Self:
        with suppress(AlreadyExists):
            await self._publisher.create_topic(name=self._topic)
        await self._subscriber.create_subscription(name=self._name, topic=self._topic)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def delete_topic(self) -> None:
        await self._publisher.delete_topic(topic=self._topic)

    async def receive(self, count: int) -> list[Arrived]:
        """Messages until `count` different ones have arrived, repeats included."""
        arrived: list[Arrived] = []
        while len({message.data for message in arrived}) < count:
            arrived += await self._pull()
        return arrived

    async def _pull(self) -> list[Arrived]:
        try:
            answer = await self._subscriber.pull(
                subscription=self._name, max_messages=1000, retry=None, timeout=5
            )
        except DeadlineExceeded:
            return []
        messages = answer.received_messages
        if messages:
            await self._subscriber.acknowledge(
                subscription=self._name, ack_ids=[message.ack_id for message in messages]
            )
        return [
            Arrived(message.message.data, dict(message.message.attributes.items())) for message in messages
        ]
