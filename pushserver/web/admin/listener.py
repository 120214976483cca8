"""The admin listener's routes, and its server."""

from __future__ import annotations

import re
from typing import Any

from tornado.web import Application

from pushserver.web.admin.admin import Admin
from pushserver.web.admin.batch_call import BatchCall
from pushserver.web.admin.dashboard import FILES, Dashboard
from pushserver.web.admin.description import Description
from pushserver.web.admin.handler import AdminHandler, NoSuchPath
from pushserver.web.admin.messages import Message, Messages
from pushserver.web.admin.operations import Health, MetricsPage, Ready
from pushserver.web.admin.pods import CategoryCounts, Exposures, Pods, Stats
from pushserver.web.admin.users import Disconnect, Inbox, Parked, ParkedMessage, User, UserCategories
from pushserver.web.listener import Listener

__all__ = ["ROUTES", "admin_server"]

MAX_BODY_BYTES = 64 * 1024
"""Of a request that no handler saw; the others have bounds of their own."""
IDLE_S = 60

ROUTES: dict[str, type[AdminHandler]] = {
    "/healthz": Health,
    "/readyz": Ready,
    "/metrics": MetricsPage,
    "/openapi.json": Description,
    "/v1/messages": Messages,
    "/v1/messages/batch": BatchCall,
    "/v1/messages/{id}": Message,
    "/v1/users/{user}": User,
    "/v1/users/{user}/inbox": Inbox,
    "/v1/users/{user}/parked": Parked,
    "/v1/users/{user}/parked/{id}": ParkedMessage,
    "/v1/users/{user}/categories": UserCategories,
    "/v1/users/{user}/disconnect": Disconnect,
    "/v1/pods": Pods,
    "/v1/stats": Stats,
    "/v1/categories": CategoryCounts,
    "/v1/exposures": Exposures,
    **dict.fromkeys(FILES, Dashboard),
}
"""Every path, as the description names it, with its handler; the first that fits counts."""


def admin_server(admin: Admin) -> Listener:
    """The server for back ends and operators."""
    own = {"admin": admin}
    routes: list[Any] = [(_pattern(path), handler, own) for path, handler in ROUTES.items()]
    application = Application(routes, default_handler_class=NoSuchPath, log_function=lambda handler: None)
    return Listener(
        application,
        xheaders=False,
        idle_connection_timeout=IDLE_S,
        body_timeout=IDLE_S,
        max_body_size=MAX_BODY_BYTES,
    )


def _pattern(path: str) -> str:
    """A path as Tornado wants it: what stands in braces is a part of its own, percent-encoded."""
    part = "([^/]+)"
    return re.escape(path).replace(re.escape("{id}"), part).replace(re.escape("{user}"), part)
