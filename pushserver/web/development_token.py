"""A token for development, as `pushserver token`, `connect` and the demonstration page use it."""

from __future__ import annotations

import time

from pushserver.config import Settings
from pushserver.core.categories import Categories
from pushserver.core.errors import ConfigError
from pushserver.development import token_secret
from pushserver.web import tokens

__all__ = ["development_token"]


def development_token(settings: Settings, user: str, ttl_s: int, categories: Categories) -> str:
    """A token that the server believes, signed with HS256. Raises `ConfigError` where it would not."""
    for name in ("issuer", "audience"):
        if getattr(settings.auth, name):
            raise ConfigError(f"auth.{name}", "is set, and tokens made here name none: use your issuer's")
    claims = {kind: list(values) for kind, values in categories.items()} or None
    return tokens.make_token(token_secret(settings).encode(), user, ttl_s, time.time(), claims)
