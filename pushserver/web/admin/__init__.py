"""The admin listener: health, metrics, the HTTP API for back ends and operators, and their dashboard.

listener (routes) -> handler (who may ask, the body, refusals) -> publisher, users (`services`)
"""

from __future__ import annotations

from pushserver.web.admin.admin import Admin
from pushserver.web.admin.listener import admin_server
from pushserver.web.admin.own_page import OwnPage

__all__ = ["Admin", "OwnPage", "admin_server"]
