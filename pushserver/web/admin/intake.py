"""Requests to publish on their way in: read, published, counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pushserver.core.metrics import Metrics
from pushserver.core.publication import Publication, Published
from pushserver.core.publish_request import PublishRules, parse_publish
from pushserver.web.admin.refusals import refusal_of
from pushserver.web.admin.services import PublisherService
from pushserver.web.admin.turns import in_turns

__all__ = ["Accepted", "Intake", "max_request_bytes"]

USER_BYTES = 400
"""What a username may take in a request: 128 bytes, each third of them an escape of six, quotes and comma."""


class Accepted(NamedTuple):
    """What a back end is told about a message that was taken."""

    status: int
    fields: dict[str, Any]


class Intake:
    """Takes requests to publish."""

    def __init__(self, publisher: PublisherService, rules: PublishRules, metrics: Metrics) -> None:
        self._publisher = publisher
        self._rules = rules
        self._metrics = metrics

    async def read(self, text: bytes) -> Publication:
        """What a request asks for. Raises `InvalidFieldError`."""
        with self._refusals_counted():
            return await in_turns(parse_publish(text, self._rules, self._publisher.new_id))

    async def publish(self, publication: Publication) -> Accepted:
        """Publish; raises what `PublisherService.publish` does."""
        with self._refusals_counted():
            published = await self._publisher.publish(publication)
        self._metrics.publishes.labels("duplicate" if published.duplicate else "accepted").inc()
        return _accepted(published)

    @contextmanager
    def _refusals_counted(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            refusal = refusal_of(error)
            self._metrics.publishes.labels(refusal.code if refusal else "failed").inc()
            raise


def max_request_bytes(max_content_bytes: int, max_users: int) -> int:
    """How large a request to publish may be: its content and as many users as it may name."""
    return max_content_bytes + USER_BYTES * max_users + 4096


def _accepted(published: Published) -> Accepted:
    fields: dict[str, Any] = {"id": published.id, "users": published.users, "online": published.online}
    if published.duplicate:
        return Accepted(200, {**fields, "duplicate": True})
    return Accepted(202, fields)
