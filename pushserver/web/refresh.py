"""Refresh: a new token over an open connection."""

from __future__ import annotations

from pushserver.core.errors import NotAuthenticatedError, StoreUnavailableError
from pushserver.delivery.session import Verified
from pushserver.stores.category_store import version_of
from pushserver.web.chain.categories import Source
from pushserver.web.tokens import TokenVerifier

__all__ = ["Refresh"]


class Refresh:
    """Verifies as the handshake does, and reads the categories anew."""

    def __init__(self, verifier: TokenVerifier, source: Source) -> None:
        self._verifier = verifier
        self._source = source

    async def __call__(self, token: str, user: str) -> Verified:
        """Who the token is for.

        Raises `NotAuthenticatedError`, also for another user, and `StoreError` or `FetchError` where nobody
        can tell now.
        """
        identity = await self._verifier.verify_anew(token)
        if identity.username != user:
            raise NotAuthenticatedError("token is for another user")
        try:
            categories = await self._source(identity)
        except ValueError:
            raise StoreUnavailableError("categories", "categories cannot be read") from None
        expires = identity.expires_at
        version = version_of(categories)
        return Verified(user, expires + self._verifier.leeway_s, expires, categories, version)
