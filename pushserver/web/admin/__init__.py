"""The admin listener: health, metrics, and the HTTP API for back ends and operators.

listener (routes) -> handler (who may ask, the body, refusals) -> publisher, users (`services`)
"""

from __future__ import annotations

from pushserver.web.admin.admin import Admin
from pushserver.web.admin.listener import admin_server

__all__ = ["Admin", "admin_server"]
