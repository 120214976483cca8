"""Publishers to test with: one that counts what goes over the wire, one that fails as it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types
from google.pubsub_v1 import PublisherAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport

__all__ = ["ScriptedPublisher", "counting_requests"]


class _Counter(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, sizes: list[int]) -> None:
        self._sizes = sizes

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        if details.method.endswith(b"/Publish"):
            self._sizes.append(len(request.messages))
        return await continuation(details, request)


def counting_requests(sizes: list[int]) -> Callable[[str], Awaitable[PublisherAsyncClient]]:
    """Connects to the emulator and notes the number of messages of each publish request in `sizes`."""

    async def connect(emulator_host: str) -> PublisherAsyncClient:
        channel = grpc.aio.insecure_channel(emulator_host, interceptors=[_Counter(sizes)])
        return PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))

    return connect


class ScriptedPublisher:
    """Stands for Google's client where a real server cannot be made to fail: raises what it was given.

    Once the given errors are used up, publishing works. It is its own transport.
    """

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.hosts: list[str] = []
        self.attempts = 0
        self.created: list[str] = []
        self.closed = 0
        self.transport = self

    async def connect(self, emulator_host: str) -> Any:
        self.hosts.append(emulator_host)
        return self

    async def publish(self, request: Any, *, retry: None, timeout: float) -> None:
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)

    async def create_topic(self, *, name: str, retry: None, timeout: float) -> None:
        self.created.append(name)

    async def close(self) -> None:
        self.closed += 1
