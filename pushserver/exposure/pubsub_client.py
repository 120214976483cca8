"""Google's clients on our loop: the emulator or Google, reconnecting promptly."""

from __future__ import annotations

import asyncio
from typing import Any

import google.auth
import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

__all__ = ["connect_publisher", "connect_subscriber"]

_CHANNEL_OPTIONS = (
    # Left alone, gRPC waits up to two minutes before it looks whether the server is back.
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Left alone, gRPC takes 4 MB, and Pub/Sub's messages have up to 10.
    ("grpc.max_receive_message_length", -1),
)

_EMULATOR_OPTIONS = (
    *_CHANNEL_OPTIONS,
    # The emulator is near; a proxy that the environment names for the way out is not meant for it.
    ("grpc.enable_http_proxy", 0),
)


async def connect_publisher(emulator_host: str) -> PublisherAsyncClient:
    """A client for the emulator at `HOST:PORT`, or for Google when `emulator_host` is empty.

    Google's is authenticated by the application default credentials; they are looked for in a thread, for
    that may ask the metadata server. Raises `google.auth.exceptions.GoogleAuthError` when there are none.
    No connection is made yet. Close with `client.transport.close()`, in the loop that called this.
    """
    if emulator_host:
        channel = grpc.aio.insecure_channel(emulator_host, options=_EMULATOR_OPTIONS)
        return PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
    scopes = PublisherGrpcAsyncIOTransport.AUTH_SCOPES
    credentials, _ = await asyncio.to_thread(google.auth.default, scopes=scopes)
    return PublisherAsyncClient(credentials=credentials, transport=_google_transport)


async def connect_subscriber(emulator_host: str) -> SubscriberAsyncClient:
    """As `connect_publisher`, a client for reading."""
    if emulator_host:
        channel = grpc.aio.insecure_channel(emulator_host, options=_EMULATOR_OPTIONS)
        return SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
    scopes = SubscriberGrpcAsyncIOTransport.AUTH_SCOPES
    credentials, _ = await asyncio.to_thread(google.auth.default, scopes=scopes)
    return SubscriberAsyncClient(credentials=credentials, transport=_google_subscriber_transport)


def _google_subscriber_transport(**settings: Any) -> SubscriberGrpcAsyncIOTransport:
    return SubscriberGrpcAsyncIOTransport(channel=_google_channel, **settings)


def _google_transport(**settings: Any) -> PublisherGrpcAsyncIOTransport:
    return PublisherGrpcAsyncIOTransport(channel=_google_channel, **settings)


def _google_channel(host: str, *, options: list[tuple[str, Any]], **settings: Any) -> grpc.aio.Channel:
    return PublisherGrpcAsyncIOTransport.create_channel(
        host, options=[*options, *_CHANNEL_OPTIONS], **settings
    )
