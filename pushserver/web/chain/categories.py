"""Categories: what kind of user this is, from Redis, from the token's claims, or from a back end by HTTP."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from pushserver.core.categories import Categories, parse_categories
from pushserver.core.context import Context
from pushserver.core.errors import (
    FetchError,
    InvalidNameError,
    NotAuthenticatedError,
    StoreUnavailableError,
)
from pushserver.delivery.at_once import at_once
from pushserver.delivery.deadlines import Deadlines
from pushserver.delivery.retry import until_stored
from pushserver.web.chain import CATEGORIES, IDENTITY, LOG_AT, USER
from pushserver.web.chain.authenticate import refuse_token
from pushserver.web.chain.refuse import refuse
from pushserver.web.tokens import Identity

__all__ = ["CategoriesLink", "Source", "from_claims", "from_redis"]

log = structlog.get_logger(__name__)

Source = Callable[[Identity], Coroutine[Any, Any, Categories]]
"""Where categories come from. May raise `StoreError`, `FetchError`, `InvalidNameError` or `ValueError`."""


async def from_claims(identity: Identity) -> Categories:
    """The token's claim `categories`. Raises `NotAuthenticatedError` for one that is no categories."""
    if identity.categories_claim is None:
        return {}
    try:
        return parse_categories(identity.categories_claim)
    except InvalidNameError as error:
        raise NotAuthenticatedError(f"token {error.kind} {error.reason}") from None


def from_redis(read: Callable[[str], Coroutine[Any, Any, Categories]]) -> Source:
    """The hash that the back end keeps."""
    return lambda identity: read(identity.username)


class CategoriesLink:
    """Reads the categories, and in the same round trip the user's place in the log; announces the user, too.

    A new user gets a place in the log here, before `welcome`: what comes afterwards is theirs. A source that
    is another server (`asks_elsewhere`) is asked first, and once, however often Redis is tried.
    """

    def __init__(
        self,
        source: Source,
        announce: Callable[[str], Coroutine[Any, Any, None]],
        cursor: Callable[[str], Coroutine[Any, Any, int]],
        *,
        connect_wait_ms: int,
        asks_elsewhere: bool = False,
    ) -> None:
        self._source = source
        self._asks_elsewhere = asks_elsewhere
        self._announce = announce
        self._cursor = cursor
        self._deadlines = Deadlines(connect_wait_ms / 1000)

    async def handle(self, ctx: Context) -> None:
        """The link of the chain: waits `connect_wait_ms` for Redis, then 503 (by Recovery)."""
        identity: Identity = ctx.must_get(IDENTITY)
        try:
            source = await self._beforehand(identity) if self._asks_elsewhere else self._source
            # Around all of it, for the pauses between two tries are part of the wait.
            with self._deadlines.watch():
                found = await until_stored(lambda: self._read(source, identity), lambda: True)
        except TimeoutError:
            raise StoreUnavailableError("away", "no answer in time") from None
        except NotAuthenticatedError as error:
            refuse_token(ctx, error.reason)
            return
        except FetchError:
            refuse(ctx, 503, "categories", "categories cannot be asked for now", retry_after_s=5)
            return
        except ValueError as error:
            # InvalidNameError is one. Half of a user's categories would reach the wrong people.
            log.error("categories.invalid", user=ctx.must_get(USER), reason=str(error)[:200])
            refuse(ctx, 503, "categories", "categories cannot be read", retry_after_s=5)
            return
        if found is not None:
            ctx.set(CATEGORIES, found[0])
            ctx.set(LOG_AT, found[1])

    async def _beforehand(self, identity: Identity) -> Source:
        found = await self._source(identity)

        async def known(_: Identity) -> Categories:
            return found

        return known

    async def _read(self, source: Source, identity: Identity) -> tuple[Categories, int]:
        user = identity.username
        categories, log_at, _ = await at_once(source(identity), self._cursor(user), self._announce(user))
        return categories, log_at
