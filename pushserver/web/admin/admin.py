"""What the handlers of the admin listener need."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pushserver.core.metrics import Metrics
from pushserver.core.publish_request import PublishRules
from pushserver.web.admin.own_page import OwnPage
from pushserver.web.admin.services import CensusService, ExplainerService, PublisherService, UserService
from pushserver.web.guesses import Guesses

__all__ = ["Admin"]


@dataclass(slots=True)
class Admin:
    """Built once; the handlers hold nothing else."""

    metrics: Metrics
    api_keys: Sequence[str]
    """Empty: whoever reaches the listener, which settings then keep on loopback."""
    publisher: PublisherService
    users: UserService
    explainer: ExplainerService
    census: CensusService
    rules: PublishRules
    max_content_bytes: int
    describe_pod: Callable[[], dict[str, Any]]
    describe_exposures: Callable[[], Awaitable[dict[str, Any]]]
    """What waits in the exposure stream. Raises `StoreError`."""
    ready: Callable[[], str]
    """Empty when the pod may take traffic, else why not."""
    own_page: OwnPage = field(default_factory=OwnPage)
    guesses: Guesses = field(default_factory=Guesses)
    key_bytes: list[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.use_keys(self.api_keys)

    def use_keys(self, api_keys: Sequence[str]) -> None:
        """Know these from now on, and no others."""
        self.api_keys = api_keys
        self.key_bytes = [key.encode() for key in api_keys]

    def knows(self, key: str) -> bool:
        """Whether it is one of the keys. Every key is compared, each in constant time."""
        given = key.encode("utf-8", "replace")
        return sum(hmac.compare_digest(given, known) for known in self.key_bytes) > 0
