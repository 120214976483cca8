"""What the API of a pod stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pushserver.config import Settings
from pushserver.core.metrics import Metrics
from pushserver.core.publish_request import PublishRules
from pushserver.web.admin import Admin, OwnPage
from pushserver.web.demo import Demo
from pushserver.web.development_token import development_token

if TYPE_CHECKING:
    from pushserver.app import App

__all__ = ["build_admin", "build_demo", "publish_rules"]

DEMO_TOKEN_TTL_S = 600


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


def build_demo(app: App, admin: Admin) -> Demo | None:
    """What the demonstration page stands on; None but in development mode."""
    if not app.settings.development:
        return None
    return Demo(
        admin,
        new_token=lambda user: development_token(app.settings, user, DEMO_TOKEN_TTL_S, {}),
        exposures=lambda: _exposures(app.metrics),
    )


def _exposures(metrics: Metrics) -> int:
    read = metrics.registry.get_sample_value
    counted = (read("pushserver_exposures_total", {"where": where}) for where in ("published", "spooled"))
    return int(sum(count or 0 for count in counted))


def publish_rules(settings: Settings) -> PublishRules:
    """What a request to publish may ask for."""
    return PublishRules(settings.publish.max_users, settings.content.ttl_s, settings.content.max_ttl_s)
