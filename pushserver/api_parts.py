"""What the API of a pod stands on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from pushserver.config import Settings
from pushserver.core.publish_request import PublishRules
from pushserver.web.admin import Admin
from pushserver.web.admin.services import UserService

if TYPE_CHECKING:
    from pushserver.app import App

__all__ = ["build_admin", "publish_rules"]


def build_admin(app: App) -> Admin:
    """What the admin listener serves of a pod."""
    settings = app.settings
    return Admin(
        metrics=app.metrics,
        api_keys=[key.get_secret_value() for key in settings.admin.api_keys],
        publisher=app.publisher,
        users=cast(UserService, _Described(app.describe_user)),
        rules=publish_rules(settings),
        max_content_bytes=settings.content.max_bytes,
        describe_pod=app.describe_pod,
        ready=app.not_ready,
    )


def publish_rules(settings: Settings) -> PublishRules:
    """What a request to publish may ask for."""
    return PublishRules(settings.publish.max_users, settings.content.ttl_s, settings.content.max_ttl_s)


@dataclass(frozen=True, slots=True)
class _Described:
    """The part of `UserService` that there is so far."""

    describe: Callable[[str], Awaitable[dict[str, Any]]]
