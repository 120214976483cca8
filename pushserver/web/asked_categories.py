"""Categories by HTTP: a back end is asked for a user's categories at the handshake and at a refresh.

GET `categories.url`, with the username percent-encoded in place of `{user}`:

    200   a JSON object of kind to a value or a list of values, as for `PUT /v1/users/U/categories`
    404   none
    else  they are not known: nobody comes in with half of them
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

import structlog

from pushserver.core.alarm import Alarm
from pushserver.core.categories import NO_CATEGORIES, Categories, parse_categories
from pushserver.core.errors import FetchError
from pushserver.core.metrics import Metrics
from pushserver.core.publish_request import checked_json
from pushserver.web.admin.turns import in_turns
from pushserver.web.circuit import Circuit
from pushserver.web.tokens import Identity

if TYPE_CHECKING:
    from pushserver.web.fetch import Fetched, Fetcher

__all__ = ["AskedCategories"]

log = structlog.get_logger(__name__)

USER = "{user}"
"""What stands in the URL in place of the username."""

_UNWELL = frozenset({502, 503, 504})
"""What proxies answer for a back end that is away."""
_AWAY = frozenset({"timeout", "connect", "tls", "lost"})
"""Kinds of failure that are the back end's, whoever is asked about."""


class AskedCategories:
    """A source of categories (`chain.categories.Source`)."""

    def __init__(
        self, fetcher: Fetcher, url: str, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetcher = fetcher
        self._url = url
        self._metrics = metrics
        self._circuit = Circuit(clock)
        self._alarm = Alarm(clock=clock)

    @property
    def in_hand(self) -> int:
        """Who waits for an answer, or for a turn to ask."""
        return self._fetcher.in_hand

    async def __call__(self, identity: Identity) -> Categories:
        """What the back end says. Raises `FetchError` where it says nothing of use."""
        try:
            categories = await self._ask(identity.username)
        except FetchError as error:
            self._metrics.category_requests.labels(error.kind).inc()
            if self._alarm.due():
                log.error(
                    "categories.unavailable",
                    user=identity.username,
                    kind=error.kind,
                    reason=error.reason,
                )
            raise
        self._metrics.category_requests.labels("ok" if categories else "none").inc()
        return categories

    async def _ask(self, user: str) -> Categories:
        url = self._url_for(user)
        if not self._circuit.may_try():
            raise FetchError("away", "the back end does not answer")
        answer = await self._fetched(url)
        if answer.status == 404:
            return NO_CATEGORIES
        if answer.status != 200:
            raise FetchError("status", f"answered {answer.status}")
        try:
            return parse_categories(await in_turns(checked_json(answer.body)))
        except ValueError as error:
            # InvalidFieldError and InvalidNameError are: half of the categories would reach the wrong people.
            raise FetchError("invalid", str(error)[:200]) from None

    async def _fetched(self, url: str) -> Fetched:
        began = time.monotonic()
        try:
            answer = await self._fetcher.get(url)
        except FetchError as error:
            if error.kind in _AWAY:
                self._circuit.failed()
            raise
        finally:
            self._metrics.category_request_seconds.observe(time.monotonic() - began)
        if answer.status in _UNWELL:
            self._circuit.failed()
        else:
            self._circuit.worked()
        return answer

    def _url_for(self, user: str) -> str:
        if user in {".", ".."}:
            # However it is written, it would lead to the folder above.
            raise FetchError("name", f"nobody can be asked about the user {user}")
        return self._url.replace(USER, quote(user, safe=""))

    async def close(self) -> None:
        """Let go of the connections."""
        await self._fetcher.close()
