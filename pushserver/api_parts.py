"""What the API of a pod stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pushserver.config import Settings
from pushserver.core.publish_request import PublishRules
from pushserver.web.admin import Admin, OwnPage

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
        users=app.users,
        explainer=app.explainer,
        census=app.census,
        rules=publish_rules(settings),
        max_content_bytes=settings.content.max_bytes,
        describe_pod=app.describe_pod,
        describe_exposures=app.describe_exposures,
        ready=app.not_ready,
        own_page=OwnPage(settings.admin.origins),
    )


def publish_rules(settings: Settings) -> PublishRules:
    """What a request to publish may ask for."""
    return PublishRules(settings.publish.max_users, settings.content.ttl_s, settings.content.max_ttl_s)
