"""`GET /openapi.json`: the API, described."""

from __future__ import annotations

from typing import ClassVar

from pushserver.web.admin.handler import ApiHandler
from pushserver.web.admin.openapi import describe_api

__all__ = ["Description"]


class Description(ApiHandler):
    """For whoever writes a client, or generates one."""

    calls: ClassVar = {"GET": "description"}

    def get(self) -> None:
        """The document, with the bounds that are in force."""
        self.answer(describe_api(self.admin.rules))
